// The products of attention for a tile of queries: scores of many rows of q with many keys, and sums of values.
//
// Keys are turned round once a tile, so that a vector holds one channel of neighbouring keys; values lie in blocks of
// channels. Both then fit the first-level cache while the rows of q pass over them, and a product is a block of
// registers that nothing leaves before it is complete. Every score is one sum over channels in order, every output one
// over keys in order, whatever else is computed with it.

#pragma once

#include <algorithm>
#include <cstdint>

#include "../step/vectors.h"

namespace octavo {

#ifdef __AVX512F__
constexpr int kRows = 8, kColumns = 3;  // registers of scores: rows of q, vectors of keys
constexpr int kSums = 6, kWide = 4;     // registers of sums: rows, vectors of channels
#else
constexpr int kRows = 4, kColumns = 3;
constexpr int kSums = 6, kWide = 2;
#endif
constexpr int kPanel = kColumns * kLanes;  // keys of a panel
constexpr int kBlock = kWide * kLanes;     // channels of a block of values
constexpr int kDeep = 96;                  // values that stay in the first-level cache while rows pass

// A column of four channels of as many rows as a vector has lanes becomes four vectors, one a channel.
inline void turn_four(const float* const* rows, int k, float* out, size_t apart) {
  Lanes r[4];
  for (int j = 0; j < 4; ++j) {
#ifdef __AVX512F__
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(rows[j] + k));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(rows[4 + j] + k), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(rows[8 + j] + k), 2);
    r[j] = _mm512_insertf32x4(v, _mm_loadu_ps(rows[12 + j] + k), 3);
#else
    r[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[j] + k)), _mm_loadu_ps(rows[4 + j] + k), 1);
#endif
  }
#ifdef __AVX512F__
  const Lanes a = _mm512_unpacklo_ps(r[0], r[1]), b = _mm512_unpackhi_ps(r[0], r[1]);
  const Lanes c = _mm512_unpacklo_ps(r[2], r[3]), d = _mm512_unpackhi_ps(r[2], r[3]);
  store(out, _mm512_shuffle_ps(a, c, 0x44)), store(out + apart, _mm512_shuffle_ps(a, c, 0xEE));
  store(out + 2 * apart, _mm512_shuffle_ps(b, d, 0x44)), store(out + 3 * apart, _mm512_shuffle_ps(b, d, 0xEE));
#else
  const Lanes a = _mm256_unpacklo_ps(r[0], r[1]), b = _mm256_unpackhi_ps(r[0], r[1]);
  const Lanes c = _mm256_unpacklo_ps(r[2], r[3]), d = _mm256_unpackhi_ps(r[2], r[3]);
  store(out, _mm256_shuffle_ps(a, c, 0x44)), store(out + apart, _mm256_shuffle_ps(a, c, 0xEE));
  store(out + 2 * apart, _mm256_shuffle_ps(b, d, 0x44)), store(out + 3 * apart, _mm256_shuffle_ps(b, d, 0xEE));
#endif
}

// Rows [n, K] -> keys: panels [K, kPanel]; n is a multiple of kPanel.
inline void pack_keys(const float* const* rows, int n, int K, float* keys) {
  for (int i = 0; i < n; i += kLanes)
    for (int k = 0; k < K; k += 4)
      turn_four(rows + i, k, keys + size_t(i / kPanel * K + k) * kPanel + i % kPanel, kPanel);
}

// Channels of the block that begins with channel c: the last ones, too few for a block, are vectors of their own.
inline int width_at(int c, int K) { return c + kBlock <= K ? kBlock : kLanes; }

// Rows [n, K] -> values: blocks [apart, width], the block of channel c at c * apart.
inline void pack_values(const float* const* rows, int n, int K, int apart, float* values) {
  for (int c = 0; c < K; c += width_at(c, K)) {
    const int width = width_at(c, K);
    float* to = values + size_t(c) * apart;
    for (int i = 0; i < n; ++i, to += width)
      for (int j = 0; j < width; j += kLanes) store(to + j, load(rows[i] + c + j));
  }
}

// scores [kRows, apart] = q [K, kRows], turned round, times a panel [K, kPanel].
inline void score_panel(const float* q, const float* panel, int K, float* scores, size_t apart) {
  Lanes sums_of[kRows][kColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) sums_of[i][j] = all(0.f);
  for (int k = 0; k < K; ++k, q += kRows, panel += kPanel) {
    Lanes keys[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) keys[j] = load(panel + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Lanes x = all(q[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sums_of[i][j] = fma(x, keys[j], sums_of[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) store(scores + i * apart + j * kLanes, sums_of[i][j]);
}

// out [kSums, K], N vectors of it, += p [kSums, apart], n of it, times values [n, N vectors].
template <int N>
void add_values(const float* p, size_t apart, const float* values, int n, float* out, size_t K) {
  Lanes sums_of[kSums][N];
#pragma GCC unroll 8
  for (int i = 0; i < kSums; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sums_of[i][j] = load(out + i * K + j * kLanes);
  for (int e = 0; e < n; ++e, ++p, values += N * kLanes) {
    Lanes row[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) row[j] = load(values + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) {
      const Lanes share = all(p[i * apart]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sums_of[i][j] = fma(share, row[j], sums_of[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kSums; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) store(out + i * K + j * kLanes, sums_of[i][j]);
}

}  // namespace octavo
