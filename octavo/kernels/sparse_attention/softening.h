// A softmax over rows that come in parts: weights against the largest logit so far, rescaled when a larger one comes.
//
// Logits are in units of log 2: queries are scaled by log2 e with everything else, and weights are powers of two.

#pragma once

#include <algorithm>
#include <limits>

#include "../step/vectors.h"

namespace octavo {

constexpr float kLog2E = 1.4426950408889634f;

// The first `count` lanes of v, and of `other` the rest.
inline Lanes first_of(Lanes v, int count, Lanes other) {
#ifdef __AVX512F__
  return _mm512_mask_blend_ps(__mmask16((1u << count) - 1), other, v);
#else
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane)));
#endif
}

inline bool any_above(Lanes a, Lanes b) {
#ifdef __AVX512F__
  return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
#else
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
#endif
}

// 2^x of every lane, x <= 0; 2^-126 below; NaN stays NaN.
inline Lanes halved(Lanes x) { return raised(larger(all(-126.f), x)); }

// What a row of q has gathered so far: the largest logit, the sum of weights (lane by lane), and K sums of values.
struct Gathered {
  float* top;
  float* total;
  float* sums;
};

inline void begin(const Gathered& g, float sink, int K) {
  *g.top = sink * kLog2E;
  store(g.total, first_of(all(1.f), 1, all(0.f)));
  std::fill(g.sums, g.sums + K, 0.f);
}

// n logits, `offset` added, become weights; the vector that holds the last one is filled up with zeros. What was
// gathered before shrinks where the maximum rises.
inline void soften(float* row, int n, float offset, const Gathered& g, int K) {
  const Lanes shift = all(offset), nothing = all(-std::numeric_limits<float>::infinity());
  const int whole = n / kLanes * kLanes, rest = n - whole;
  Lanes most = nothing;
  for (int i = 0; i < whole; i += kLanes) most = larger(most, load(row + i));
  if (rest) most = larger(most, first_of(load(row + whole), rest, nothing));
  most = most + shift;
  if (any_above(most, all(*g.top))) {
    float lanes[kLanes], shrink[kLanes];
    store(lanes, most);
    const float top = *std::max_element(lanes, lanes + kLanes);
    store(shrink, halved(all(*g.top - top)));
    const Lanes by = all(shrink[0]);
    store(g.total, load(g.total) * by);
    for (int k = 0; k < K; k += kLanes) store(g.sums + k, load(g.sums + k) * by);
    *g.top = top;
  }
  const Lanes top = all(*g.top);
  Lanes total = load(g.total);
  for (int i = 0; i < whole; i += kLanes) {
    const Lanes weight = halved(load(row + i) + shift - top);
    store(row + i, weight);
    total = total + weight;
  }
  if (rest) {
    const Lanes weight = first_of(halved(load(row + whole) + shift - top), rest, all(0.f));
    store(row + whole, weight);
    total = total + weight;
  }
  store(g.total, total);
}

// out [K] = the sums over the total.
inline void finish(const Gathered& g, int K, float* out) {
  const Lanes by = all(1.f / sum(load(g.total)));
  for (int k = 0; k < K; k += kLanes) store(out + k, load(g.sums + k) * by);
}

}  // namespace octavo
