// The first of two levels, for scan.cpp: a part of it, so everything is in its own namespace.
//
// A query's heads are folded into one: u = sum_i w_i p_i q_i, where p_i is how often q_i . key > 0 among the best keys
// of a sample. Where that is so, relu(q_i . key) is q_i . key: u . key is the score of a key to which exactly the heads
// that are mostly there contribute. All keys are scored by u in whole numbers (scan_sketch.h); the best of them go on.
//
// The sample are whole groups of 16 keys at equal distances among all groups that a query sees. Everything up to u is
// formed without FMA, in the order of the heads: every body has the same u.

#pragma once

#include "scan_read.h"
#include "scan_sketch.h"

namespace {

constexpr int kSample = 64;  // groups of a sample
constexpr int kBest = 32;    // keys of it that say which heads contribute
constexpr int kFetched = 8192;  // bytes of keys fetched before they are scored
constexpr int kSlack = 2;    // times what is chosen: with more held a higher level is looked for

#ifdef OCTAVO_X86

// Keys in four bits by group: neighbours in a list mostly lie in one place.
struct Groups {
  const Place* places;
  int at = 0, J;

  const Place& place(int64_t entry) {
    while (places[at].base > entry) --at;
    while (places[at].stop <= entry) ++at;
    return places[at];
  }

  const uint8_t* bytes(int64_t entry) {
    const Place& own = place(entry);
    return own.bytes + size_t(entry - own.base) * J / 2;
  }
};

// Coarse keys that are not kept in four bits in whole groups, made so for a call.
struct Anew {
  std::vector<float> keys, scale;
  std::vector<uint8_t> bytes;
  Place whole;

  // The places to read instead of `places`, which hold the keys up to number `end`.
  const Place* of(const Place* places, int& count, int64_t end, int J) {
    bool kept = true;
    for (int p = 0; p < count; ++p) kept = kept && places[p].bytes && places[p].base % kLanes == 0;
    if (kept) return places;
    const size_t room = size_t(end + kLanes - 1) / kLanes * kLanes;
    keys.resize(room * J), scale.resize(room), bytes.resize(room * J / 2);
    for (int p = 0; p < count; ++p)
      if (places[p].base < end)
        std::copy(places[p].keys, places[p].keys + size_t(std::min(places[p].stop, end) - places[p].base) * J,
                  keys.data() + size_t(places[p].base) * J);
    sketch(keys.data(), 0, end, J, bytes.data(), scale.data());
    whole = {0, end, keys.data(), bytes.data(), scale.data(), nullptr, nullptr};
    count = 1;
    return &whole;
  }
};

// A sample's keys with all heads of a query: products [heads][keys], and scores.
struct Sample {
  Vectors heads;
  std::vector<int32_t> products;
  std::vector<float> scores, scales;
};

// Scores of n sampled keys, times their scales.
inline void sample_scores(const Vectors& heads, const float* w, const int32_t* products, const float* scale, int n,
                          float* scores) {
  std::fill(scores, scores + n, 0.f);
  for (int i = 0; i < heads.count(); ++i) {
    const float weight = w[i] * heads.scale[i];
    for (int e = 0; e < n; ++e) scores[e] += weight * float(std::max(0, products[size_t(i) * n + e]));
  }
  for (int e = 0; e < n; ++e) scores[e] *= scale[e];
}

// The folded query [J] of query s, which sees the keys below `seen` of coarse places.
template <class Form>
void fold(const Call& call, int s, const Place* coarse, int64_t seen, float* folded) {
  static thread_local Sample own;
  const int I = call.I, J = call.J;
  const int64_t all = seen / kLanes;
  const int64_t apart = std::max<int64_t>(1, (all + kSample - 1) / kSample);
  const int groups = int((all + apart - 1) / apart), n = groups * kLanes;
  std::vector<float> share(I, 1.f);
  if (groups) {
    own.heads.clear(I, J);
    for (int i = 0; i < I; ++i) own.heads.set(i, call.query(s) + size_t(i) * J);
    own.products.resize(size_t(I) * n), own.scores.resize(n), own.scales.resize(n);
    Groups find{coarse, 0, J};
    const uint8_t* keys[kTogether];
    int32_t sums[kTogether * kSpan];
    for (int g = 0; g < groups; g += kTogether) {
      for (int t = 0; t < kTogether; ++t) {
        const int64_t entry = std::min(g + t, groups - 1) * apart * kLanes;
        keys[t] = find.bytes(entry);
        const Place& place = find.place(entry);
        const float* scale = place.scale + (entry - place.base);
        std::copy(scale, scale + kLanes, own.scales.data() + size_t(std::min(g + t, groups - 1)) * kLanes);
      }
      const int some = std::min(kTogether, groups - g) * kLanes;
      for (int i = 0; i < I; i += kTogether) {
        own.heads.template products<Form>(i, keys, sums);
        for (int v = 0; v < std::min(kTogether, I - i); ++v)
          std::copy(sums + v * kSpan, sums + v * kSpan + some, own.products.data() + size_t(i + v) * n + g * kLanes);
      }
    }
    sample_scores(own.heads, call.weights(s), own.products.data(), own.scales.data(), n, own.scores.data());
    const float least = n > kBest ? cut_of<Form>(own.scores.data(), n, kBest).least : kNone;
    int best = 0;
    for (int e = 0; e < n; ++e) best += own.scores[e] >= least;
    for (int i = 0; i < I; ++i) {
      int active = 0;
      for (int e = 0; e < n; ++e) active += (own.products[size_t(i) * n + e] > 0) & (own.scores[e] >= least);
      if (best) share[i] = float(active) / float(best);
    }
  }
  for (int j = 0; j < J; ++j) folded[j] = 0.f;
  for (int i = 0; i < I; ++i) {
    const float weight = call.weights(s)[i] * share[i], *q = call.query(s) + size_t(i) * J;
    for (int j = 0; j < J; ++j) folded[j] += weight * q[j];
  }
}

// What a query holds of the keys: folded scores over the vector's scale, and entries, ascending.
struct Reached {
  std::vector<float> scores;
  std::vector<int32_t> entries;
  int count = 0;
  float level = kNone;

  void room(int more) {
    const size_t size = size_t(count + more) + kLanes;
    if (scores.size() < size) scores.resize(2 * size), entries.resize(2 * size);
  }
};

// Adds of `span` keys, the first of which is entry `first` and has the scale scale[0], those above the level.
__attribute__((target(OCTAVO_AVX512))) inline void reach(Vnni, const int32_t* sums, const float* scale, int span,
                                                         int64_t first, Reached& to) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 level = _mm512_set1_ps(to.level);
  for (int i = 0; i < span; i += kLanes) {
    const __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums + i)), _mm512_loadu_ps(scale + i));
    __mmask16 some = _mm512_cmp_ps_mask(score, level, _CMP_GT_OQ);
    if (span - i < kLanes) some &= __mmask16((1u << (span - i)) - 1);
    if (!some) continue;
    const __m512i entries = _mm512_add_epi32(_mm512_set1_epi32(int32_t(first) + i), lanes);
    _mm512_storeu_ps(to.scores.data() + to.count, _mm512_maskz_compress_ps(some, score));
    _mm512_storeu_si512(to.entries.data() + to.count, _mm512_maskz_compress_epi32(some, entries));
    to.count += __builtin_popcount(some);
  }
}

__attribute__((target("avx2,fma"))) inline void reach(Avx2, const int32_t* sums, const float* scale, int span,
                                                      int64_t first, Reached& to) {
  const __m256 level = _mm256_set1_ps(to.level);
  for (int i = 0; i < span; i += 8) {
    const __m256i whole = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + i));
    const __m256 score = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_loadu_ps(scale + i));
    unsigned bits = unsigned(_mm256_movemask_ps(_mm256_cmp_ps(score, level, _CMP_GT_OQ)));
    if (span - i < 8) bits &= (1u << (span - i)) - 1;
    float lanes[8];
    if (bits) _mm256_storeu_ps(lanes, score);
    for (; bits; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      to.scores[to.count] = lanes[lane], to.entries[to.count++] = int32_t(first) + i + lane;
    }
  }
}

// Leaves what may be among the best `most`; exactly these where many are equal. Later keys must be better: they lose
// ties.
template <class Form>
void raise(Reached& held, int most) {
  float *scores = held.scores.data(), found = below_the_best(scores, held.count, most);
  if (found > held.level) {
    held.level = found;
    held.count = keep(Form{}, scores, held.entries.data(), held.count, found, false, scores, held.entries.data());
  }
  if (held.count <= kSlack * most) return;
  held.count = choose<Form>(scores, held.entries.data(), held.count, most);
  held.level = *std::min_element(scores, scores + held.count);
}

// Of the keys of a coarse place from entry `lo` on, `count` of them, what queries with the folded vectors reach; query
// s sees those below seen[s].
template <class Form>
void reach_some(const Vectors& folded, const Place& place, int64_t lo, int count, const int64_t* seen, int most,
                Reached* held) {
  int32_t sums[kTogether * kSpan];
  const int S = folded.count(), last = (count - 1) / kLanes * kLanes;
  const uint8_t* const from = place.bytes + size_t(lo - place.base) * folded.J / 2;
  const float* const scale = place.scale + (lo - place.base);
  for (int s = 0; s < S; ++s) held[s].room(count);
  for (int at = 0; at < count; at += kSpan) {
    const uint8_t* keys[kTogether];
    for (int t = 0; t < kTogether; ++t) keys[t] = from + size_t(std::min(at + t * kLanes, last)) * folded.J / 2;
    for (int b = 0; b < kSpan * folded.J / 2; b += 64) __builtin_prefetch(keys[0] + kSpan * folded.J / 2 + b);
    for (int first = 0; first < S; first += kTogether) {
      const int end = std::min(kTogether, S - first);
      folded.products<Form>(first, keys, sums);
      for (int v = 0; v < end; ++v) {
        const int64_t visible = std::min<int64_t>(count, seen[first + v] - lo) - at;
        if (visible > 0)
          reach(Form{}, sums + v * kSpan, scale + at, int(std::min<int64_t>(kSpan, visible)), lo + at, held[first + v]);
      }
    }
  }
  for (int s = 0; s < S; ++s)
    if (held[s].count > kSlack * most) raise<Form>(held[s], most);
}

// Folded scores of the keys lo .. lo + count - 1 of a coarse place: those of vector v from scores + v * apart on.
template <class Form>
void score_folded(const Vectors& folded, const Place& place, int64_t lo, int count, float* scores, size_t apart) {
  int32_t sums[kTogether * kSpan];
  const int S = folded.count(), last = (count - 1) / kLanes * kLanes;
  const uint8_t* const from = place.bytes + size_t(lo - place.base) * folded.J / 2;
  const float* const scale = place.scale + (lo - place.base);
  for (int at = 0; at < count; at += kSpan) {
    const uint8_t* keys[kTogether];
    for (int t = 0; t < kTogether; ++t) keys[t] = from + size_t(std::min(at + t * kLanes, last)) * folded.J / 2;
    for (int b = 0; b < kSpan * folded.J / 2; b += 64) __builtin_prefetch(keys[0] + kFetched + b);
    const int span = std::min(kSpan, count - at);
    for (int first = 0; first < S; first += kTogether) {
      folded.products<Form>(first, keys, sums);
      for (int v = 0; v < std::min(kTogether, S - first); ++v) {
        float* to = scores + (first + v) * apart + at;
        for (int i = 0; i < span; ++i) to[i] = float(sums[v * kSpan + i]) * scale[at + i];
      }
    }
  }
}

// The best k coarse keys of each query by its folded heads, ascending: blocks [S, k]. Places and `seen` are theirs.
template <class Form>
void read_folded(const Call& call, int64_t* blocks) {
  static thread_local std::vector<Reached> held(kShared);  // not made anew for every call
  static thread_local Vectors folded;
  std::vector<float> one(call.J);
  for (int first = 0; first < call.S; first += kShared) {
    const int S = std::min(kShared, call.S - first);
    folded.clear(S, call.J);
    for (int s = 0; s < S; ++s) {
      fold<Form>(call, first + s, call.places, call.seen[first + s], one.data());
      folded.set(s, one.data());
      held[s].count = 0, held[s].level = kNone;
    }
    for (const Place* place = call.places; place < call.places + call.count; ++place) {
      const int64_t end = std::min(place->stop, call.seen[first + S - 1]);
      for (int64_t at = place->base; at < end; at += kPassed)
        reach_some<Form>(folded, *place, at, int(std::min<int64_t>(kPassed, end - at)), call.seen + first, call.k,
                         held.data());
    }
    for (int s = 0; s < S; ++s) {
      Reached& own = held[s];
      own.room(0);
      const int n = choose<Form>(own.scores.data(), own.entries.data(), own.count, call.k);
      std::copy(own.entries.data(), own.entries.data() + n, blocks + size_t(first + s) * call.k);
    }
  }
}

#endif

}  // namespace
