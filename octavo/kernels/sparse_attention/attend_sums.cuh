// Sums to memory, and the parts of a token's keys joined by a cluster of blocks, one part a block, through each other's
// shared memory. See attend_sm90.cu.

#pragma once

#include "attend_rows.cuh"

namespace octavo {

__device__ __forceinline__ float power(float x) {  // 2^x
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <typename T>
__device__ __forceinline__ void store_pair(T* to, float x, float y);
template <>
__device__ __forceinline__ void store_pair(float* to, float x, float y) { *reinterpret_cast<float2*>(to) = {x, y}; }
template <>
__device__ __forceinline__ void store_pair(__half* to, float x, float y) {
    *reinterpret_cast<__half2*>(to) = __floats2half2_rn(x, y);
}
template <>
__device__ __forceinline__ void store_pair(__nv_bfloat16* to, float x, float y) {
    *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(x, y);
}

// Four neighbouring lanes hold a word each of four groups, x[group] -> lane `mine` holds the four words of group `mine`.
__device__ __forceinline__ void exchange(uint32_t (&x)[4], int mine) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (k & step) continue;
            const bool upper = mine & step;
            const uint32_t got = __shfl_xor_sync(0xFFFFFFFFu, upper ? x[k] : x[k + step], step);
            x[k] = upper ? got : x[k];
            x[k + step] = upper ? x[k + step] : got;
        }
    }
}

// The sums of two heads, eight rows of `out` apart, from `channel` on; `mine`: which of the four lanes with the same
// heads this one is, of which each has two of eight channels.
template <typename T>
__device__ __forceinline__ void store_sums(void* out, int64_t row, const float (&o)[2][64], float share0, float share1,
                                           int channel, int mine) {
    T* to = reinterpret_cast<T*>(out) + row * kWidth + channel;
    if constexpr (OCTAVO_QUADS && sizeof(T) == 2) {  // else a store would write half of a sector
#pragma unroll
        for (int i = 0; i < 32; i += 4) {
            alignas(16) uint32_t low[4], high[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float* four = o[(i + j) >> 4] + 4 * ((i + j) & 15);
                store_pair(reinterpret_cast<T*>(low + j), four[0] * share0, four[1] * share0);
                store_pair(reinterpret_cast<T*>(high + j), four[2] * share1, four[3] * share1);
            }
            exchange(low, mine);
            exchange(high, mine);
            *reinterpret_cast<uint4*>(to + 8 * (i + mine)) = {low[0], low[1], low[2], low[3]};
            *reinterpret_cast<uint4*>(to + 8 * kWidth + 8 * (i + mine)) = {high[0], high[1], high[2], high[3]};
        }
    } else {
        to += 2 * mine;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            const float* four = o[i >> 4] + 4 * (i & 15);
            store_pair(to + 8 * i, four[0] * share0, four[1] * share0);
            store_pair(to + 8 * kWidth + 8 * i, four[2] * share1, four[3] * share1);
        }
    }
}

// ---- a cluster of parts ----------------------------------------------------------------------------------------------

constexpr int kSumRow = 2 * kWidth;  // bytes of a head's sums in FP16; their pieces of 16 are swizzled by its number

// A part's sums to its own shared memory, in place of the queries, which all products have read by then.
__device__ __forceinline__ void keep_sums(Shared& sm, const float (&o)[2][64], float share0, float share1, int head,
                                          int half, int thread) {
    uint8_t* to = sm.queries + head * kSumRow + 4 * (thread & 3);
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const float* four = o[i >> 4] + 4 * (i & 15);
        const int piece = ((half * 32 + i) ^ (head & 7)) << 4;
        store_pair(reinterpret_cast<__half*>(to + piece), four[0] * share0, four[1] * share0);
        store_pair(reinterpret_cast<__half*>(to + 8 * kSumRow + piece), four[2] * share1, four[3] * share1);
    }
}

template <typename T>
__device__ __forceinline__ void store_eight(void* out, int64_t at, const float (&o)[8], float share) {
    alignas(16) T made[8];
#pragma unroll
    for (int i = 0; i < 8; i += 2) store_pair(made + i, o[i] * share, o[i + 1] * share);
#pragma unroll
    for (int i = 0; i < int(sizeof(T) / 2); i++)
        reinterpret_cast<uint4*>(reinterpret_cast<T*>(out) + at)[i] = reinterpret_cast<const uint4*>(made)[i];
}

// The kParts parts of a token and 64 heads, each normalised, and the sink into output and log sums; every block of the
// cluster does its share of the heads, with 256 threads, eight channels of a head each, of several heads at a time.
template <int kParts>
__device__ __forceinline__ void join_parts(const OctavoAttend& a, Shared& sm, int item, int thread) {
    constexpr int kEach = (kHeads + 4 * kParts - 1) / (4 * kParts), kAtOnce = kEach < OCTAVO_JOIN ? kEach : OCTAVO_JOIN;
    const int groups = a.heads / kHeads, split = item % kParts, group = item / kParts % groups;
    const int64_t row = int64_t(item / (kParts * groups)) * a.heads + group * kHeads;
    const int piece = thread % (kWidth / 8), end = (split + 1) * kHeads / kParts;
#pragma unroll 1
    for (int begin = split * kHeads / kParts + thread / (kWidth / 8); begin < end; begin += 4 * kAtOnce) {
        uint4 part[kAtOnce][kParts];
        float reach[kAtOnce][kParts], own[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; k++) {
            const int head = min(begin + 4 * k, end - 1);
            const uint32_t sums = address(sm.queries) + head * kSumRow + ((piece ^ (head & 7)) << 4);
            own[k] = __ldg(a.sink + group * kHeads + head);
#pragma unroll
            for (int p = 0; p < kParts; p++) {
                part[k][p] = read_far(of_block(sums, p));
                reach[k][p] = read_far_float(of_block(address(sm.reach + head), p));
            }
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; k++) {
            const int head = begin + 4 * k;
            if (head >= end) break;
            float top = fmaxf(own[k] * kLog2e, kLowest);
#pragma unroll
            for (int p = 0; p < kParts; p++) top = fmaxf(top, reach[k][p]);
            float o[8] = {}, total = power(own[k] * kLog2e - top);
#pragma unroll
            for (int p = 0; p < kParts; p++) {
                const float weight = power(reach[k][p] - top);
                const uint32_t words[4] = {part[k][p].x, part[k][p].y, part[k][p].z, part[k][p].w};
                total += weight;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float2 two = __half22float2(*reinterpret_cast<const __half2*>(words + j));
                    o[2 * j] = fmaf(two.x, weight, o[2 * j]);
                    o[2 * j + 1] = fmaf(two.y, weight, o[2 * j + 1]);
                }
            }
            const float share = total == 0.f ? 0.f : __fdividef(1.f, total);  // total is at most kParts + 1
            const int64_t at = (row + head) * kWidth + 8 * piece;
            if (a.kind == kBf16) store_eight<__nv_bfloat16>(a.out, at, o, share);
            if (a.kind == kFp16) store_eight<__half>(a.out, at, o, share);
            if (a.kind == kFp32) store_eight<float>(a.out, at, o, share);
            if (piece == 0) a.lse[row + head] = top + log2f(total);
        }
    }
}

}  // namespace octavo
