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

// How many values are greater than `bar`.
__attribute__((target("avx2,fma"))) inline int above(const float* values, int n, float bar) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += values[i] > bar;
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

// The k-th largest of n >= k values, which are reordered. Leaving out a few of the least is faster than halving.
inline float kth(float* values, int n, int k) {
  const int over = n - k;
  if (over < kOver) {
    std::partial_sort(values, values + over + 1, values + n);
    return values[over];
  }
  std::nth_element(values, values + (k - 1), values + n, std::greater<float>());
  return values[k - 1];
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
  const float least = kth(ranked.data(), good, k);
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

#endif

}  // namespace
