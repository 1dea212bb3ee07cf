// The best k of many queries, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include "scan_hold.h"

namespace {

constexpr int kFirst = 512;    // keys after which a query first looks for a level
constexpr int kPassed = 2048;  // keys between such looks
constexpr int kHeld = 4;       // times k: scored keys held before all but the best go
constexpr int kLoose = 3;      // times k: with more than so many held, hardly one is surely among the best

#ifdef OCTAVO_X86

// Bounds that sort a query's held entries: those whose least is greater than `sure` are among its best, those whose
// least is greater than `likely` probably are, and those whose most is less than `level` are not.
struct Sorted {
  float sure, likely, level;
};

// The places of those that are neither sure nor ruled out, the likely ones or the others; how many there are. NaN is
// neither.
inline int list_open(Avx2, const Held& held, const Sorted& by, bool likely, int32_t* places) {
  int n = 0;
  for (int i = 0; i < held.count; ++i) {
    const float least = held.least[i];
    places[n] = i;
    n += !(least > by.sure) & ((least > by.likely) == likely) & !(held.most[i] < by.level);
  }
  return n;
}

__attribute__((target(OCTAVO_AVX512))) inline int list_open(Vnni, const Held& held, const Sorted& by, bool likely,
                                                            int32_t* places) {
  const __m512 sure = _mm512_set1_ps(by.sure), better = _mm512_set1_ps(by.likely), level = _mm512_set1_ps(by.level);
  __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int n = 0;
  for (int i = 0; i < held.count; i += 16, place = _mm512_add_epi32(place, _mm512_set1_epi32(16))) {
    const __m512 least = _mm512_loadu_ps(held.least.data() + i);
    const __mmask16 good = _mm512_cmp_ps_mask(least, better, _CMP_GT_OQ);
    __mmask16 some = likely ? good : __mmask16(~good);
    if (held.count - i < 16) some &= __mmask16((1u << (held.count - i)) - 1);
    some = _mm512_mask_cmp_ps_mask(some, least, sure, _CMP_NGT_UQ);
    some = _mm512_mask_cmp_ps_mask(some, _mm512_loadu_ps(held.most.data() + i), level, _CMP_NLT_UQ);
    _mm512_storeu_si512(places + n, _mm512_maskz_compress_epi32(some, place));
    n += __builtin_popcount(some);
  }
  return n;
}

// A query's best k of what it holds, ascending, into `picks`. Those that are sure need no score. Of the others the
// likely ones are scored in FP32 first: what they leave room for rules out most of the rest.
template <class Form>
void choose_held(const Call& call, int s, Held& held, int64_t* picks) {
  static thread_local std::vector<int32_t> places, entries;
  static thread_local std::vector<float> exact, scores;
  held.room(0);
  const int all = held.count, k = call.k;
  const size_t room = std::max(places.size(), size_t(all) + kLanes);
  places.resize(room), entries.resize(room), exact.resize(room), scores.resize(room);
  std::fill(scores.begin(), scores.begin() + all, kNone);
  const float* least = held.least.data();
  const float sure = all > kLoose * k ? -kNone : above_the_rest(held.most.data(), all, k);
  Sorted by{sure, below_the_best(least, all, k), kNone};
  const int more = k - above(least, all, by.sure);
  const auto score = [&](bool likely) {
    const int n = list_open(Form{}, held, by, likely, places.data());
    for (int i = 0; i < n; ++i) entries[i] = held.entries[places[i]];
    score_entries<Form>(call, s, entries.data(), n, exact.data());
    for (int i = 0; i < n; ++i) scores[places[i]] = exact[i] = exact[i] > kNone ? exact[i] : kNone;  // no NaN
    return n;
  };
  Cut cut{kNone, 0};
  if (more > 0) {
    int n = score(true);
    if (n >= more) by.level = kth(exact.data(), n, more);
    score(false);
    n = keep(Form{}, scores.data(), held.entries.data(), all, kNone, false, exact.data(), entries.data());
    if (n > more) cut = cut_of<Form>(exact.data(), n, more);
  }
  int32_t* to = entries.data();
  for (int i = 0; i < all; ++i) {
    const bool tied = (scores[i] == cut.least) & (cut.equal > 0);
    *to = held.entries[i];
    to += (least[i] > by.sure) | (scores[i] > cut.least) | tied;
    cut.equal -= tied;
  }
  std::copy(entries.data(), to, picks);
}

// The best k for each query, ascending, by bytes: picks [S, k], where fewer are visible as the caller left them.
template <class Form>
void read(const Call& call, int64_t* picks) {
  static thread_local std::vector<Held> held(kShared);  // not made anew for every call
  static thread_local std::vector<Rounded> rounded(kShared);
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
    for (int s = 0; s < S; ++s) choose_held<Form>(call, first + s, held[s], picks + size_t(first + s) * call.k);
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
      count = choose<Form>(scores.data(), entries.data(), count, call.k);
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
    own.clear();
    for (int i = 0; i < count; ++i)
      if (blocks[size_t(s) * count + i] >= 0) own.push_back(blocks[size_t(s) * count + i]);
    if (!std::is_sorted(own.begin(), own.end())) std::sort(own.begin(), own.end());
    int n = 0;
    for (const int64_t block : own)
      for (int64_t e = block * size; e < std::min<int64_t>((block + 1) * size, call.seen[s]); ++e)
        entries[n++] = int32_t(e);
    score_entries<Form>(call, s, entries.data(), n, scores.data());
    n = choose<Form>(scores.data(), entries.data(), n, call.k);
    std::copy(entries.data(), entries.data() + n, picks + size_t(s) * call.k);
  }
}

#endif

}  // namespace
