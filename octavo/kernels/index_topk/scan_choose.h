// From scores to the best k, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include "scan_bytes.h"

#include <functional>

#ifdef OCTAVO_X86

namespace {

// Keys that lie together: those of the entries base .. stop - 1, and the same as bytes, null where those are not kept.
struct Place {
  int64_t base, stop;
  const float* keys;
  uint8_t* bytes;
  float *scale, *norm, *error;

  // The entries at .. at + count - 1; `at` is a multiple of 16 keys behind `base`.
  Tile tile(int64_t at, int count, int J) const {
    const int64_t lo = at - base;
    return {{bytes + size_t(lo) * J, scale + lo, norm + lo, error + lo}, count};
  }
};

// What a call works with; query s sees the entries below seen[s].
struct Call {
  const float *q, *w;
  const Place* places;
  const int64_t* seen;
  int count, S, I, J, k;

  const float* query(int s) const { return q + size_t(s) * I * J; }
  const float* weights(int s) const { return w + size_t(s) * I; }
};

// Keys by entry: neighbours in a list mostly lie in one place.
struct Finder {
  const Call& call;
  int at = 0;

  const float* operator()(int64_t entry) {
    while (call.places[at].base > entry) --at;
    while (call.places[at].stop <= entry) ++at;
    return call.places[at].keys + size_t(entry - call.places[at].base) * call.J;
  }
};

inline void fetch(const float* key, int J) {
  for (int j = 0; j < J; j += 16) __builtin_prefetch(key + j);
}

// FP32 scores of n listed entries for query s.
template <class Form>
void score_entries(const Call& call, int s, const int32_t* entries, int n, float* scores) {
  Finder find{call}, ahead{call};
  for (int i = 0; i < std::min(kAhead, n); ++i) fetch(ahead(entries[i]), call.J);
  for (int i = 0; i < n; i += 4) {
    const float* keys[4];
    float four[4];
    for (int e = 0; e < 4; ++e) {
      keys[e] = find(entries[std::min(i + e, n - 1)]);
      if (i + e + kAhead < n) fetch(ahead(entries[i + e + kAhead]), call.J);
    }
    score_four(Form{}, call.query(s), call.weights(s), keys, call.I, call.J, four);
    std::copy(four, four + std::min(4, n - i), scores + i);
  }
}

// The places, ascending, of the values that are not less than `bar`, NaN among them; how many there are.
__attribute__((target("avx2,fma"))) inline int list_above(const float* values, int n, float bar, int32_t* places) {
  const __m256 least = _mm256_set1_ps(bar);
  int count = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    unsigned bits = unsigned(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values + i), least, _CMP_NLT_UQ)));
    for (; bits; bits &= bits - 1) places[count++] = i + __builtin_ctz(bits);
  }
  for (; i < n; ++i)
    if (!(values[i] < bar)) places[count++] = i;
  return count;
}

// The least and the largest of n values, NaN aside.
__attribute__((target("avx2,fma"))) inline void range_of(const float* values, int n, float& least, float& most) {
  __m256 low = _mm256_set1_ps(-kNone), high = _mm256_set1_ps(kNone);
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 value = _mm256_loadu_ps(values + i);
    low = _mm256_min_ps(value, low), high = _mm256_max_ps(value, high);
  }
  float lows[8], highs[8];
  _mm256_storeu_ps(lows, low), _mm256_storeu_ps(highs, high);
  least = *std::min_element(lows, lows + 8), most = *std::max_element(highs, highs + 8);
  for (; i < n; ++i) least = values[i] < least ? values[i] : least, most = values[i] > most ? values[i] : most;
}

// A number that at least k of the n values are greater than, and not many more where they lie apart; kNone if n < k.
inline float below_the_best(const float* values, int n, int k) {
  if (n < k) return kNone;
  float low, high, found = kNone;
  range_of(values, n, low, high);
  for (int i = 0; i < kHalvings; ++i) {
    const float middle = 0.5f * low + 0.5f * high;
    const int count = above(values, n, middle);
    if (count < k) {
      high = middle;
    } else {
      low = found = middle;
      if (count <= k + k / 8) break;
    }
  }
  return found;
}

// Of n scored entries, ascending, the best k, ascending; lower entries first among equals, and none whose score is NaN
// or -infinity. Their number.
inline int choose(float* scores, int32_t* entries, int n, int k) {
  static thread_local std::vector<float> ranked;
  int there = 0;
  for (int i = 0; i < n; ++i) {
    scores[there] = scores[i], entries[there] = entries[i];
    there += scores[i] > kNone;
  }
  if (there <= k) return there;
  const float bar = below_the_best(scores, there, k);
  ranked.resize(std::max(ranked.size(), size_t(there)));
  int good = 0;
  for (int i = 0; i < there; ++i) ranked[good] = scores[i], good += scores[i] > bar;
  std::nth_element(ranked.begin(), ranked.begin() + (k - 1), ranked.begin() + good, std::greater<float>());
  const float least = ranked[k - 1];
  int equal = k - above(scores, there, least), kept = 0;
  for (int i = 0; i < there; ++i) {
    const float score = scores[i];
    const bool tied = score == least && equal > 0;
    scores[kept] = score, entries[kept] = entries[i];
    kept += score > least || tied;
    equal -= tied;
  }
  return kept;
}

// Entries of one query that may be among its best k, ascending, and what their scores are at least and at most.
struct Held {
  std::vector<float> least, most;
  std::vector<int32_t> entries;
  int count, enough;  // with more than `enough` it is worth to look for a higher level
  float level;        // at least k scores are greater

  void clear(int k) { count = 0, enough = k + k / 2, level = kNone; }

  // Room for more entries, and for a register beyond them.
  void room(int more) {
    const size_t size = size_t(count + more) + kLanes;
    if (most.size() < size) least.resize(size), most.resize(size), entries.resize(size);
  }
};

// Leaves out what does not reach the level: it is less than k others. NaN stay.
__attribute__((target("avx2,fma"))) inline void leave_out(Avx2, Held& held) {
  const __m256 level = _mm256_set1_ps(held.level);
  float *least = held.least.data(), *most = held.most.data();
  int kept = 0;
  for (int i = 0; i < held.count; i += 8) {
    unsigned bits = unsigned(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(most + i), level, _CMP_NLT_UQ)));
    if (held.count - i < 8) bits &= (1u << (held.count - i)) - 1;
    for (; bits; bits &= bits - 1, ++kept) {
      const int from = i + __builtin_ctz(bits);
      least[kept] = least[from], most[kept] = most[from], held.entries[kept] = held.entries[from];
    }
  }
  held.count = kept;
}

__attribute__((target(OCTAVO_AVX512))) inline void leave_out(Vnni, Held& held) {
  const __m512 level = _mm512_set1_ps(held.level);
  float *least = held.least.data(), *most = held.most.data();
  int32_t* entries = held.entries.data();
  int kept = 0;
  for (int i = 0; i < held.count; i += 16) {
    const __m512 low = _mm512_loadu_ps(least + i), high = _mm512_loadu_ps(most + i);
    const __m512i entry = _mm512_loadu_si512(entries + i);
    unsigned bits = _mm512_cmp_ps_mask(high, level, _CMP_NLT_UQ);
    if (held.count - i < 16) bits &= (1u << (held.count - i)) - 1;
    _mm512_storeu_ps(least + kept, _mm512_maskz_compress_ps(__mmask16(bits), low));
    _mm512_storeu_ps(most + kept, _mm512_maskz_compress_ps(__mmask16(bits), high));
    _mm512_storeu_si512(entries + kept, _mm512_maskz_compress_epi32(__mmask16(bits), entry));
    kept += __builtin_popcount(bits);
  }
  held.count = kept;
}

// Looks for a higher level.
template <class Form>
void shrink(Held& held, int k) {
  const float found = below_the_best(held.least.data(), held.count, k);
  if (found > held.level) {
    held.level = found;
    leave_out(Form{}, held);
  }
  held.enough = std::max(k + k / 2, held.count + held.count / 4);
}

// Adds the keys of `count` groups of a tile, by totals of all heads, but those whose scores are less than the level. NaN
// are not less. The tile begins with entry `base`, and its keys before `visible` count.
__attribute__((target("avx2,fma"))) inline void hold(Avx2, const float* totals, const int* groups, int count,
                                                     const Rounded& q, const Tile& tile, int visible, int64_t base,
                                                     Held& held) {
  const __m256 level = _mm256_set1_ps(held.level), of_norm = _mm256_set1_ps(q.slack.of_norm),
               of_error = _mm256_set1_ps(q.slack.of_error);
  alignas(32) float least[kLanes], most[kLanes];
  for (int g = 0; g < count; ++g) {
    const int at = groups[g] * kLanes;
    unsigned bits = 0;
    for (int half = 0; half < kLanes; half += 8) {
      const __m256 score = _mm256_mul_ps(_mm256_load_ps(totals + g * kLanes + half),
                                         _mm256_loadu_ps(tile.at.scale + at + half));
      const __m256 slack = _mm256_fmadd_ps(of_norm, _mm256_loadu_ps(tile.at.norm + at + half),
                                           _mm256_mul_ps(of_error, _mm256_loadu_ps(tile.at.error + at + half)));
      const __m256 high = _mm256_add_ps(score, slack);
      _mm256_store_ps(least + half, _mm256_sub_ps(score, slack)), _mm256_store_ps(most + half, high);
      bits |= unsigned(_mm256_movemask_ps(_mm256_cmp_ps(high, level, _CMP_NLT_UQ))) << half;
    }
    if (visible - at < kLanes) bits &= (1u << (visible - at)) - 1;
    for (; bits; bits &= bits - 1) {
      const int i = __builtin_ctz(bits), to = held.count++;
      held.least[to] = least[i], held.most[to] = most[i], held.entries[to] = int32_t(base + at + i);
    }
  }
}

__attribute__((target(OCTAVO_AVX512))) inline void hold(Vnni, const float* totals, const int* groups, int count,
                                                        const Rounded& q, const Tile& tile, int visible, int64_t base,
                                                        Held& held) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 level = _mm512_set1_ps(held.level), of_norm = _mm512_set1_ps(q.slack.of_norm),
               of_error = _mm512_set1_ps(q.slack.of_error);
  __m512 least[kGroups], most[kGroups];
  __mmask16 reach[kGroups];
  unsigned some = 0;
  for (int g = 0; g < count; ++g) {
    const int at = groups[g] * kLanes;
    const __m512 score = _mm512_mul_ps(_mm512_load_ps(totals + g * kLanes), _mm512_loadu_ps(tile.at.scale + at));
    const __m512 slack = _mm512_fmadd_ps(of_norm, _mm512_loadu_ps(tile.at.norm + at),
                                         _mm512_mul_ps(of_error, _mm512_loadu_ps(tile.at.error + at)));
    least[g] = _mm512_sub_ps(score, slack), most[g] = _mm512_add_ps(score, slack);
    reach[g] = _mm512_cmp_ps_mask(most[g], level, _CMP_NLT_UQ);
    if (visible - at < kLanes) reach[g] &= __mmask16((1u << (visible - at)) - 1);
    some |= unsigned(reach[g] != 0) << g;
  }
  int to = held.count;
  for (; some; some &= some - 1) {
    const int g = __builtin_ctz(some);
    const __m512i entries = _mm512_add_epi32(_mm512_set1_epi32(int32_t(base) + groups[g] * kLanes), lanes);
    _mm512_storeu_ps(held.least.data() + to, _mm512_maskz_compress_ps(reach[g], least[g]));
    _mm512_storeu_ps(held.most.data() + to, _mm512_maskz_compress_ps(reach[g], most[g]));
    _mm512_storeu_si512(held.entries.data() + to, _mm512_maskz_compress_epi32(reach[g], entries));
    to += __builtin_popcount(reach[g]);
  }
  held.count = to;
}

// Scores the first groups that wait, as many as a chunk has, by the other heads and takes them into what is held.
template <class Form>
void settle(const Call& call, const Rounded& q, const Tile& tile, int visible, int64_t base, Waiting& waiting,
            Held& held) {
  const int count = std::min(waiting.count, kGroups);
  const Chunk chunk(tile, call.J, [&](int g) { return waiting.groups[std::min(g, count - 1)]; });
  add_heads(Form{}, q, q.plus, q.heads(), chunk, call.J, waiting.totals);
  hold(Form{}, waiting.totals, waiting.groups, count, q, tile, visible, base, held);
  std::copy(waiting.totals + count * kLanes, waiting.totals + waiting.count * kLanes, waiting.totals);
  std::copy(waiting.groups + count, waiting.groups + waiting.count, waiting.groups);
  waiting.count -= count;
}

// Holds of each query from `first` on what may be among its best of a tile that begins with entry `base`. Once levels
// are high, most groups are ruled out by the heads that raise scores alone.
template <class Form>
void hold_tile(const Call& call, const Rounded* rounded, int first, int S, const Tile& tile, int64_t base, Held* held) {
  alignas(64) float totals[kChunk];
  Waiting waiting[kShared];
  int visible[kShared], groups[kGroups];
  for (int s = 0; s < S; ++s) {
    visible[s] = int(std::max<int64_t>(0, std::min<int64_t>(tile.count, call.seen[first + s] - base)));
    held[s].room(tile.count);
  }
  const bool early = base < int64_t(kEarly) * call.k;
  for (int at = 0; at < tile.count; at += kChunk) {
    const Chunk chunk = chunk_at(tile, at / kLanes, call.J);
    std::iota(groups, groups + kGroups, at / kLanes);
    const uint8_t* next = tile.at.bytes + size_t(at + kChunk) * call.J;  // each query fetches a share of it
    const int share = (kChunk * call.J / 64 + S - 1) / S * 64;
    for (int s = 0; s < S; ++s) {  // while the chunk is in the first-level cache
      const Rounded& q = rounded[s];
      for (int b = 0; b < share; b += 64) __builtin_prefetch(next + s * share + b);
      const int count = std::min(kGroups, (visible[s] - at + kLanes - 1) / kLanes);
      if (count <= 0) continue;
      add_heads(Form{}, q, 0, q.plus, chunk, call.J, totals);
      if (early || q.plus == call.I) {
        add_heads(Form{}, q, q.plus, call.I, chunk, call.J, totals);
        hold(Form{}, totals, groups, count, q, tile, visible[s], base, held[s]);
      } else {
        wait(Form{}, q, totals, tile, groups[0], count, held[s].level, waiting[s]);
        if (waiting[s].count >= kGroups) settle<Form>(call, q, tile, visible[s], base, waiting[s], held[s]);
      }
    }
  }
  for (int s = 0; s < S; ++s)
    if (waiting[s].count) settle<Form>(call, rounded[s], tile, visible[s], base, waiting[s], held[s]);
}

// FP32 scores of what is held, -infinity where others are surely greater. Those that are probably the best come first:
// the k-th of them rules out most of the rest.
template <class Form>
void score_held(const Call& call, int s, const Held& held, std::vector<float>& scores) {
  static thread_local std::vector<int> places;
  static thread_local std::vector<int32_t> entries;
  static thread_local std::vector<float> exact;
  const int all = held.count;
  scores.assign(all, kNone);
  places.resize(std::max(places.size(), size_t(all))), entries.resize(places.size()), exact.resize(places.size());
  const auto score = [&](int n) {
    for (int i = 0; i < n; ++i) entries[i] = held.entries[places[i]];
    score_entries<Form>(call, s, entries.data(), n, exact.data());
    for (int i = 0; i < n; ++i) scores[places[i]] = exact[i] = exact[i] > kNone ? exact[i] : kNone;  // no NaN
  };
  const float likely = below_the_best(held.least.data(), all, call.k);
  int n = 0;
  for (int i = 0; i < all; ++i) places[n] = i, n += held.least[i] > likely;
  score(n);
  float level = kNone;
  if (n >= call.k) {
    std::nth_element(exact.begin(), exact.begin() + (call.k - 1), exact.begin() + n, std::greater<float>());
    level = exact[call.k - 1];
  }
  n = 0;
  for (int i = 0; i < all; ++i) places[n] = i, n += !(held.least[i] > likely) & !(held.most[i] < level);
  score(n);
}

// The best k for each query, ascending, by bytes: picks [S, k], where fewer are visible as the caller left them.
template <class Form>
void read(const Call& call, int64_t* picks) {
  static thread_local std::vector<Held> held(kShared);  // not made anew for every call
  static thread_local std::vector<Rounded> rounded(kShared);
  static thread_local std::vector<float> exact;
  for (int first = 0; first < call.S; first += kShared) {
    const int S = std::min(kShared, call.S - first);
    for (int s = 0; s < S; ++s) {
      round_query<Form>(call.query(first + s), call.weights(first + s), call.I, call.J, rounded[s]);
      held[s].clear(call.k);
    }
    int64_t size = kFirst;  // small at first: without a level every key is held
    for (const Place* place = call.places; place < call.places + call.count; ++place) {
      const int64_t end = std::min(place->stop, call.seen[first + S - 1]);
      for (int64_t at = place->base; at < end;) {
        const int count = int(std::min(size, end - at));
        hold_tile<Form>(call, rounded.data(), first, S, place->tile(at, count, call.J), at, held.data());
        for (int s = 0; s < S; ++s)
          if (held[s].count > held[s].enough) shrink<Form>(held[s], call.k);
        at += count, size = std::min<int64_t>(2 * size, kPassed);
      }
    }
    for (int s = 0; s < S; ++s) {
      Held& own = held[s];
      score_held<Form>(call, first + s, own, exact);
      const int found = choose(exact.data(), own.entries.data(), own.count, call.k);
      std::copy(own.entries.data(), own.entries.data() + found, picks + size_t(first + s) * call.k);
    }
  }
}

// Queries' bests of a part of the keys: FP32 scores and entries.
using Bests = std::vector<std::vector<Scored>>;

// Leaves the best k, in ascending order of entries; none whose score is NaN or -infinity.
inline void keep_best(std::vector<Scored>& best, int k) {
  const auto none = [](const Scored& one) { return !(one.score > kNone); };
  best.erase(std::remove_if(best.begin(), best.end(), none), best.end());
  if (int(best.size()) > k) {
    std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), before);
    best.resize(k);
  }
  std::sort(best.begin(), best.end(), [](const Scored& a, const Scored& b) { return a.entry < b.entry; });
}

// Takes the scores of the chunk that begins with key `at` of a tile into the maxima of lanes over kRows groups.
__attribute__((target("avx2,fma"))) inline void add_to_tops(const float* scores, int at, float* tops) {
  float* top = tops + at / (kLanes * kRows) * kLanes;
  for (int lane = 0; lane < kLanes; lane += 8) {
    __m256 most = at % (kLanes * kRows) ? _mm256_loadu_ps(top + lane) : _mm256_set1_ps(kNone);
    for (int g = 0; g < kGroups; ++g) most = _mm256_max_ps(_mm256_loadu_ps(scores + g * kLanes + lane), most);
    _mm256_storeu_ps(top + lane, most);
  }
}

// The best k of the entries lo .. hi - 1 for each query, ascending, every one scored in FP32.
template <class Form>
void read_all(const Call& call, int64_t lo, int64_t hi, Bests& bests) {
  std::vector<float> scores(kHeld * call.k + kPassed);
  std::vector<int32_t> entries(scores.size());
  bests.assign(call.S, {});
  for (int s = 0; s < call.S; ++s) {
    const int64_t end = std::min(hi, call.seen[s]);
    float level = kNone;
    int count = 0;
    for (int64_t at = lo; at < end; at += kPassed) {
      const int more = int(std::min<int64_t>(kPassed, end - at));
      for (int i = 0; i < more; ++i) entries[count + i] = int32_t(at + i);
      score_entries<Form>(call, s, entries.data() + count, more, scores.data() + count);
      for (int i = count, last = count + more; i < last; ++i) {
        scores[count] = scores[i], entries[count] = entries[i];
        count += scores[i] > level;
      }
      if (count < kHeld * call.k && at + kPassed < end) continue;
      count = choose(scores.data(), entries.data(), count, call.k);
      if (count == call.k) level = *std::min_element(scores.begin(), scores.begin() + count);
    }
    for (int i = 0; i < count; ++i) bests[s].push_back({scores[i], entries[i]});
  }
}

// The best k of each query's listed blocks of `size` entries, ascending.
template <class Form>
void listed(const Call& call, const int64_t* blocks, int count, int size, int64_t* picks) {
  std::vector<int64_t> own;
  std::vector<float> scores(size_t(count) * size);
  std::vector<int32_t> entries(scores.size());
  for (int s = 0; s < call.S; ++s) {
    own.assign(blocks + size_t(s) * count, blocks + size_t(s + 1) * count);
    if (!std::is_sorted(own.begin(), own.end())) std::sort(own.begin(), own.end());
    int n = 0;
    for (const int64_t block : own)
      for (int64_t e = block * size; block >= 0 && e < std::min<int64_t>((block + 1) * size, call.seen[s]); ++e)
        entries[n++] = int32_t(e);
    score_entries<Form>(call, s, entries.data(), n, scores.data());
    n = choose(scores.data(), entries.data(), n, call.k);
    std::copy(entries.data(), entries.data() + n, picks + size_t(s) * call.k);
  }
}

}  // namespace

#endif
