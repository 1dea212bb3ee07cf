// Scores from bytes, a chunk of keys at a time, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include "scan_bytes.h"

namespace {

constexpr int kGroups = 8;  // groups that are scored together
constexpr int kChunk = kLanes * kGroups;

#ifdef OCTAVO_X86

// Where the groups of keys that are scored together lie: group g is group `at(g)` of the tile.
struct Chunk {
  const uint8_t* keys[kGroups];

  template <class At>
  Chunk(const Tile& tile, int J, const At& at) {
    for (int g = 0; g < kGroups; ++g) keys[g] = tile.at.bytes + size_t(at(g)) * kLanes * J;
  }
};

// The chunk that begins with group `first` of a tile; the tile's last group stands for those behind it.
inline Chunk chunk_at(const Tile& tile, int first, int J) {
  return Chunk(tile, J, [=, last = (tile.count - 1) / kLanes](int g) { return std::min(first + g, last); });
}

// Adds the shares of some heads to the totals of some groups, each [kLanes]. Sums stay in registers, and a query's four
// bytes, once spread over a register, serve every group.
template <int HEADS, int GROUPS>
__attribute__((target(OCTAVO_AVX512), noinline)) void heads_vnni(
    const int32_t* fours, const int32_t* start, const float* weight, const uint8_t* const* keys, int J, bool anew,
    float* totals) {
  const __mmask16 old = anew ? 0 : 0xffff;
  __m512i sum[HEADS][GROUPS];
#pragma GCC unroll 8
  for (int h = 0; h < HEADS; ++h)
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; ++g) sum[h][g] = _mm512_set1_epi32(start[h]);
  int j = 0;
  do {  // one way out: else compilers move every sum
    __m512i four[HEADS];
#pragma GCC unroll 8
    for (int h = 0; h < HEADS; ++h) four[h] = _mm512_set1_epi32(fours[h]);
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; ++g) {
      const __m512i key = _mm512_loadu_si512(keys[g] + size_t(j) * kLanes);
#pragma GCC unroll 8
      for (int h = 0; h < HEADS; ++h) asm("vpdpbusd %2, %1, %0" : "+v"(sum[h][g]) : "v"(key), "v"(four[h]));
    }
    fours += HEADS, j += 4;
  } while (j < J);
#pragma GCC unroll 8
  for (int g = 0; g < GROUPS; ++g) {
    __m512 total = _mm512_maskz_load_ps(old, totals + g * kLanes);
#pragma GCC unroll 8
    for (int h = 0; h < HEADS; ++h)
      total = _mm512_fmadd_ps(_mm512_max_ps(_mm512_cvtepi32_ps(sum[h][g]), _mm512_setzero_ps()),
                              _mm512_set1_ps(weight[h]), total);
    _mm512_store_ps(totals + g * kLanes, total);
  }
}

template <int HEADS>
__attribute__((target(OCTAVO_AVX512), always_inline)) inline void block_vnni(
    const int32_t* fours, const int32_t* start, const float* weight, const uint8_t* const* keys, int J, bool anew,
    float* totals) {
  constexpr int groups = HEADS <= 3 ? kGroups : kGroups / 2;
  for (int g = 0; g < kGroups; g += groups)
    heads_vnni<HEADS, groups>(fours, start, weight, keys + g, J, anew, totals + g * kLanes);
}

// Adds the shares of the heads i .. end - 1, one of a query's two parts, to the totals [kChunk] of a chunk's keys; the
// first part's are new.
__attribute__((target(OCTAVO_AVX512))) inline void add_heads(Vnni, const Rounded& q, int i, int end, const Chunk& chunk,
                                                             int J, float* totals) {
  for (int n; i < end; i += n) {
    const bool anew = i == 0;
    n = block_of<Vnni>(end - i);
    const int32_t *fours = q.fours.data() + size_t(i) * J / 4, *start = q.start.data() + i;
    const float* weight = q.weight.data() + i;
    switch (n) {
      case 1: block_vnni<1>(fours, start, weight, chunk.keys, J, anew, totals); break;
      case 2: block_vnni<2>(fours, start, weight, chunk.keys, J, anew, totals); break;
      case 3: block_vnni<3>(fours, start, weight, chunk.keys, J, anew, totals); break;
      case 4: block_vnni<4>(fours, start, weight, chunk.keys, J, anew, totals); break;
      case 5: block_vnni<5>(fours, start, weight, chunk.keys, J, anew, totals); break;
      default: block_vnni<6>(fours, start, weight, chunk.keys, J, anew, totals);
    }
  }
}

// Adds the shares of some heads to the totals of a group, whose halves share a query's four bytes in a register.
template <int HEADS>
__attribute__((target("avx2,fma"), always_inline)) inline void heads_avx2(
    const int32_t* fours, const int32_t* start, const float* weight, const uint8_t* keys, int J, bool anew,
    float* totals) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i* at = reinterpret_cast<const __m256i*>(keys);
  const __m256i* const end = at + J / 2;
  __m256i sum[HEADS][2];
  for (int h = 0; h < HEADS; ++h) sum[h][0] = sum[h][1] = _mm256_set1_epi32(start[h]);
  do {  // one way out: else compilers move every sum
    const __m256i key[2] = {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
    const __m256i next[2] = {_mm256_loadu_si256(at + 2), _mm256_loadu_si256(at + 3)};
#pragma GCC unroll 4
    for (int h = 0; h < HEADS; ++h) {
      const __m256i four = _mm256_set1_epi32(fours[h]), more = _mm256_set1_epi32(fours[HEADS + h]);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i pairs =
            _mm256_add_epi16(_mm256_maddubs_epi16(key[half], four), _mm256_maddubs_epi16(next[half], more));
        sum[h][half] = _mm256_add_epi32(sum[h][half], _mm256_madd_epi16(pairs, ones));
      }
    }
    at += 4, fours += 2 * HEADS;
  } while (at != end);
  for (int half = 0; half < 2; ++half) {
    __m256 total = anew ? _mm256_setzero_ps() : _mm256_load_ps(totals + half * 8);
    for (int h = 0; h < HEADS; ++h)
      total = _mm256_fmadd_ps(_mm256_max_ps(_mm256_cvtepi32_ps(sum[h][half]), _mm256_setzero_ps()),
                              _mm256_set1_ps(weight[h]), total);
    _mm256_store_ps(totals + half * 8, total);
  }
}

__attribute__((target("avx2,fma"))) inline void add_heads(Avx2, const Rounded& q, int i, int end, const Chunk& chunk,
                                                          int J, float* totals) {
  for (int n; i < end; i += n) {
    const bool anew = i == 0;
    n = block_of<Avx2>(end - i);
    const int32_t *fours = q.fours.data() + size_t(i) * J / 4, *start = q.start.data() + i;
    const float* weight = q.weight.data() + i;
    for (int g = 0; g < kGroups; ++g) {
      float* own = totals + g * kLanes;
      switch (n) {
        case 1: heads_avx2<1>(fours, start, weight, chunk.keys[g], J, anew, own); break;
        case 2: heads_avx2<2>(fours, start, weight, chunk.keys[g], J, anew, own); break;
        case 3: heads_avx2<3>(fours, start, weight, chunk.keys[g], J, anew, own); break;
        default: heads_avx2<4>(fours, start, weight, chunk.keys[g], J, anew, own);
      }
    }
  }
}

#endif

}  // namespace
