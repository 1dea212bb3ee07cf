// The entries that a step completes: pooled, normalised, turned.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "vectors.h"

namespace octavo {

// One channel of `count` rows, `apart` apart: values weighted by the softmax of their scores.
inline float pooled(const float* values, const float* scores, const int* shift, int count, size_t apart) {
  float top = scores[shift[0]], total = 0.f, made = 0.f;
  for (int r = 1; r < count; ++r) top = std::max(top, scores[r * apart + shift[r]]);
  for (int r = 0; r < count; ++r) {
    const float share = std::exp(scores[r * apart + shift[r]] - top);
    total += share;
    made = __builtin_fmaf(share, values[r * apart + shift[r]], made);
  }
  return made / total;
}

// The same of `kLanes` channels.
inline Lanes pooled_lanes(const float* values, const float* scores, const int* shift, int count, size_t apart) {
  Lanes top = load(scores + shift[0]), total = all(0.f), made = total;
  for (int r = 1; r < count; ++r) top = larger(top, load(scores + r * apart + shift[r]));
  for (int r = 0; r < count; ++r) {
    const Lanes share = exponential(load(scores + r * apart + shift[r]) - top);
    total = total + share;
    made = fma(share, load(values + r * apart + shift[r]), made);
  }
  return made / total;
}

constexpr int kMostRows = 512;  // of a group, with those of the one before it

// out [width] from the rows of one group, `apart` apart, values before scores.
inline void pool_group(const float* rows, const int* shift, int count, int width, size_t apart, float* out) {
  const float* scores = rows + apart / 2;
  int c = 0;
  for (; c + kLanes <= width; c += kLanes) store(out + c, pooled_lanes(rows + c, scores + c, shift, count, apart));
  for (; c < width; ++c) out[c] = pooled(rows + c, scores + c, shift, count, apart);
}

}  // namespace octavo
