// From scores to the best k, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include "scan_rough.h"

#include <functional>

namespace {

constexpr int kHalvings = 14;
constexpr int kAhead = 8;  // keys fetched before they are scored
constexpr int kOver = 32;  // values beyond the k best up to which these are left out one after the other
constexpr float kNone = -std::numeric_limits<float>::infinity();

struct Scored {
  float score;
  int32_t entry;
};

// Before in rank: higher score, then lower entry.
inline bool before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.entry < b.entry);
}

#ifdef OCTAVO_X86

// Keys that lie together: those of the entries base .. stop - 1, null where only the next are read, and the same as
// bytes with their scales, lengths and errors; of coarse places in four bits with scales alone. Null where not kept.
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

// How many values are greater than `bar`.
__attribute__((target("avx2,fma"))) inline int above(const float* values, int n, float bar) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += values[i] > bar;
  return count;
}

// How many values are greater than `bar`, or NaN.
__attribute__((target("avx2,fma"))) inline int not_within(const float* values, int n, float bar) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += !(values[i] <= bar);
  return count;
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

// A number that at most k of the n values are not less than or equal to, NaN among these, and not many fewer where they
// lie apart.
inline float above_the_rest(const float* values, int n, int k) {
  if (n <= k) return kNone;
  float low, found;
  range_of(values, n, low, found);
  if (not_within(values, n, found) > k) return -kNone;
  for (int i = 0; i < kHalvings; ++i) {
    const float middle = 0.5f * low + 0.5f * found;
    const int count = not_within(values, n, middle);
    if (count > k) {
      low = middle;
    } else {
      found = middle;
      if (count >= k - k / 8) break;
    }
  }
  return found;
}

// The k-th largest of n >= k values, none of them NaN, which may be reordered. A few of the least are left out one after
// the other.
__attribute__((target("avx2,fma"))) inline float kth(float* values, int n, int k) {
  int over = n - k;
  if (over >= kOver) {
    std::nth_element(values, values + (k - 1), values + n, std::greater<float>());
    return values[k - 1];
  }
  float least = kNone;
  over -= int(std::count(values, values + n, kNone));
  while (over >= 0) {
    const float bar = least;
    __m256 lows = _mm256_set1_ps(-kNone);
    const __m256 above = _mm256_set1_ps(bar);
    int i = 0;
    for (; i + 8 <= n; i += 8) {
      const __m256 value = _mm256_loadu_ps(values + i);
      const __m256 left = _mm256_cmp_ps(value, above, _CMP_GT_OQ);
      lows = _mm256_min_ps(lows, _mm256_blendv_ps(_mm256_set1_ps(-kNone), value, left));
    }
    float lanes[8];
    _mm256_storeu_ps(lanes, lows);
    least = *std::min_element(lanes, lanes + 8);
    for (; i < n; ++i) least = values[i] > bar && values[i] < least ? values[i] : least;
    int equal = 0;
    for (i = 0; i < n; ++i) equal += values[i] == least;
    over -= equal;
  }
  return least;
}

// The best of some scores: those that are greater than `least`, and of those that are equal the first `equal`.
struct Cut {
  float least;
  int equal;
};

// Leaves of n values those that are greater than `bar`, or equal to it if `equal`, and of `from` what goes with them;
// their number. Both may be written over themselves.
inline int keep(Avx2, const float* values, const int32_t* from, int n, float bar, bool equal, float* kept,
                int32_t* to) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    const float value = values[i];
    kept[count] = value, to[count] = from[i];
    count += (value > bar) | (equal & (value == bar));
  }
  return count;
}

__attribute__((target(OCTAVO_AVX512))) inline int keep(Vnni, const float* values, const int32_t* from, int n, float bar,
                                                       bool equal, float* kept, int32_t* to) {
  const __m512 least = _mm512_set1_ps(bar);
  int count = 0;
  for (int i = 0; i < n; i += 16) {
    const __mmask16 there = n - i < 16 ? __mmask16((1u << (n - i)) - 1) : __mmask16(0xffff);
    const __m512 value = _mm512_maskz_loadu_ps(there, values + i);
    const __m512i own = _mm512_maskz_loadu_epi32(there, from + i);
    __mmask16 some = _mm512_mask_cmp_ps_mask(there, value, least, _CMP_GT_OQ);
    if (equal) some |= _mm512_mask_cmp_ps_mask(there, value, least, _CMP_EQ_OQ);
    const int more = __builtin_popcount(some);
    const __mmask16 first = __mmask16((1u << more) - 1);
    _mm512_mask_storeu_ps(kept + count, first, _mm512_maskz_compress_ps(some, value));
    _mm512_mask_storeu_epi32(to + count, first, _mm512_maskz_compress_epi32(some, own));
    count += more;
  }
  return count;
}

// What the best k > 0 of n > k values, none of them NaN or -infinity, have in common.
template <class Form>
Cut cut_of(const float* values, int n, int k) {
  static thread_local std::vector<float> ranked;
  static thread_local std::vector<int32_t> unused;
  ranked.resize(std::max(ranked.size(), size_t(n))), unused.resize(ranked.size());
  const float bar = below_the_best(values, n, k);
  const int good = keep(Form{}, values, unused.data(), n, bar, false, ranked.data(), unused.data());
  const float least = kth(ranked.data(), good, k);
  return {least, k - above(values, n, least)};
}

// Leaves of n entries those that are the best by their scores, in their order; their number.
template <class Form>
int keep_cut(const Cut& cut, float* scores, int32_t* entries, int n) {
  int equal = 0;
  for (int i = 0; i < n; ++i) equal += scores[i] == cut.least;
  if (equal <= cut.equal) return keep(Form{}, scores, entries, n, cut.least, true, scores, entries);
  int kept = 0, left = cut.equal;
  for (int i = 0; i < n; ++i) {
    const float score = scores[i];
    const bool tied = score == cut.least && left > 0;
    scores[kept] = score, entries[kept] = entries[i];
    kept += score > cut.least || tied;
    left -= tied;
  }
  return kept;
}

// Of n scored entries, ascending, the best k, ascending; lower entries first among equals, and none whose score is NaN
// or -infinity. Their number.
template <class Form>
int choose(float* scores, int32_t* entries, int n, int k) {
  const int there = keep(Form{}, scores, entries, n, kNone, false, scores, entries);
  return there <= k ? there : keep_cut<Form>(cut_of<Form>(scores, there, k), scores, entries, there);
}

#endif

}  // namespace
