// FP32 scores of index keys, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define OCTAVO_X86 1
#endif

namespace {

#ifdef OCTAVO_X86

// How keys and queries become bytes: keys unsigned with an offset, queries signed; heads whose sums of a
// few groups stay in registers.
struct Vnni {
  static constexpr int key_most = 127, offset = 128, query_most = 127, heads = 6;
};
struct Avx2 {
  static constexpr int key_most = 63, offset = 64, query_most = 63, heads = 4;  // four products stay below 2^15
};

__attribute__((target("avx2,fma"), always_inline)) inline float sum_of(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}

__attribute__((target("avx2,fma"), always_inline)) inline float dot(const float* a, const float* b, int n) {
  __m256 sum = _mm256_setzero_ps(), other = _mm256_setzero_ps();
  int j = 0;
  for (; j + 16 <= n; j += 16) {
    sum = _mm256_fmadd_ps(_mm256_loadu_ps(a + j), _mm256_loadu_ps(b + j), sum);
    other = _mm256_fmadd_ps(_mm256_loadu_ps(a + j + 8), _mm256_loadu_ps(b + j + 8), other);
  }
  for (; j < n; j += 8) sum = _mm256_fmadd_ps(_mm256_loadu_ps(a + j), _mm256_loadu_ps(b + j), sum);
  return sum_of(_mm256_add_ps(sum, other));
}

// The heads i .. I - 1 one after the other; `score` is that of the heads before them.
__attribute__((target("avx2,fma"))) inline float with_heads(const float* q, const float* w, const float* key, int i,
                                                            int I, int J, float score) {
  for (; i < I; ++i) score += w[i] * std::max(0.f, dot(q + size_t(i) * J, key, J));  // NaN: 0
  return score;
}

// FP32 scores of two keys. Sums run in one order, whichever instructions form them: equal keys have equal scores
// everywhere. Four heads share the loads of a key and the sums at the end.
__attribute__((target("avx2,fma"))) inline void score_two(const float* q, const float* w, const float* const* keys,
                                                          int I, int J, float* out) {
  float score[2] = {0.f, 0.f};
  int i = 0;
  for (; i + 4 <= I; i += 4) {
    const float* own = q + size_t(i) * J;
    __m256 sum[2][4];
    for (auto& key : sum)
      for (__m256& each : key) each = _mm256_setzero_ps();
    for (int j = 0; j < J; j += 8) {
      const __m256 one = _mm256_loadu_ps(keys[0] + j), other = _mm256_loadu_ps(keys[1] + j);
#pragma GCC unroll 4
      for (int h = 0; h < 4; ++h) {
        const __m256 value = _mm256_loadu_ps(own + size_t(h) * J + j);
        sum[0][h] = _mm256_fmadd_ps(value, one, sum[0][h]);
        sum[1][h] = _mm256_fmadd_ps(value, other, sum[1][h]);
      }
    }
    for (int e = 0; e < 2; ++e) {
      const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(sum[e][0], sum[e][1]), _mm256_hadd_ps(sum[e][2], sum[e][3]));
      const __m128 four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
      score[e] += _mm_cvtss_f32(_mm_dp_ps(_mm_max_ps(four, _mm_setzero_ps()), _mm_loadu_ps(w + i), 0xf1));
    }
  }
  for (int e = 0; e < 2; ++e) out[e] = with_heads(q, w, keys[e], i, I, J, score[e]);
}

inline void score_four(Avx2, const float* q, const float* w, const float* const* keys, int I, int J, float* out) {
  score_two(q, w, keys, I, J, out);
  score_two(q, w, keys + 2, I, J, out + 2);
}

#define OCTAVO_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"

// Sums of neighbours within each quarter, as _mm256_hadd_ps forms them.
__attribute__((target(OCTAVO_AVX512), always_inline)) inline __m512 neighbours(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

// The same for four keys, two of them in the halves of a register.
__attribute__((target(OCTAVO_AVX512))) inline void score_four(Vnni, const float* q, const float* w,
                                                              const float* const* keys, int I, int J, float* out) {
  __m512 total = _mm512_setzero_ps();
  int i = 0;
  for (; i + 4 <= I; i += 4) {
    const float* own = q + size_t(i) * J;
    __m512 sum[2][4];
    for (auto& pair : sum)
      for (__m512& each : pair) each = _mm512_setzero_ps();
    for (int j = 0; j < J; j += 8) {
      __m512 pair[2];
      for (int p = 0; p < 2; ++p)
        pair[p] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(keys[2 * p] + j)),
                                     _mm256_loadu_ps(keys[2 * p + 1] + j), 1);
#pragma GCC unroll 4
      for (int h = 0; h < 4; ++h) {
        const __m512 value = _mm512_broadcast_f32x8(_mm256_loadu_ps(own + size_t(h) * J + j));
        sum[0][h] = _mm512_fmadd_ps(value, pair[0], sum[0][h]);
        sum[1][h] = _mm512_fmadd_ps(value, pair[1], sum[1][h]);
      }
    }
    __m512 half[2];  // a quarter for each half of a key: four heads
    for (int p = 0; p < 2; ++p)
      half[p] = neighbours(neighbours(sum[p][0], sum[p][1]), neighbours(sum[p][2], sum[p][3]));
    const __m512 four = _mm512_add_ps(_mm512_shuffle_f32x4(half[0], half[1], 0x88),
                                      _mm512_shuffle_f32x4(half[0], half[1], 0xdd));
    // rounded before it is added, as in _mm_dp_ps
    const __m512 weights = _mm512_broadcast_f32x4(_mm_loadu_ps(w + i));
    __m512 shares = _mm512_mul_round_ps(_mm512_max_ps(four, _mm512_setzero_ps()), weights,
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    shares = _mm512_add_ps(shares, _mm512_permute_ps(shares, 0xb1));
    total = _mm512_add_ps(total, _mm512_add_ps(shares, _mm512_permute_ps(shares, 0x4e)));
  }
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, total)));
  for (int e = 0; e < 4 && i < I; ++e) out[e] = with_heads(q, w, keys[e], i, I, J, out[e]);
}

#endif

}  // namespace
