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

template <typename T>
__device__ __forceinline__ void store_sums(void* out, int64_t row, const float (&o)[2][64], float share0, float share1,
                                           int channel) {
    T* to = reinterpret_cast<T*>(out) + row * kWidth + channel;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const float* four = o[i >> 4] + 4 * (i & 15);
        store_pair(to + 8 * i, four[0] * share0, four[1] * share0);
        store_pair(to + 8 * kWidth + 8 * i, four[2] * share1, four[3] * share1);
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
// cluster does its share of the heads, with 256 threads, eight channels each at a time.
template <int kParts>
__device__ __forceinline__ void join_parts(const OctavoAttend& a, Shared& sm, int item, int thread) {
    constexpr int kShare = kHeads / kParts;
    const int groups = a.heads / kHeads, split = item % kParts, group = item / kParts % groups;
    const int64_t row = int64_t(item / (kParts * groups)) * a.heads + group * kHeads;
    for (int i = thread; i < kShare * (kWidth / 8); i += 256) {
        const int head = split * kShare + i / (kWidth / 8), piece = i % (kWidth / 8);
        const uint32_t sums = address(sm.queries) + head * kSumRow + ((piece ^ (head & 7)) << 4);
        uint4 part[kParts];
        float reach[kParts];
#pragma unroll
        for (int p = 0; p < kParts; p++) {
            part[p] = read_far(of_block(sums, p));
            reach[p] = read_far_float(of_block(address(sm.reach + head), p));
        }
        const float own = a.sink[group * kHeads + head] * kLog2e;
        float top = fmaxf(own, kLowest);
#pragma unroll
        for (int p = 0; p < kParts; p++) top = fmaxf(top, reach[p]);
        float o[8] = {}, total = power(own - top);
#pragma unroll
        for (int p = 0; p < kParts; p++) {
            const float weight = power(reach[p] - top);
            const uint32_t words[4] = {part[p].x, part[p].y, part[p].z, part[p].w};
            total += weight;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float2 two = __half22float2(*reinterpret_cast<const __half2*>(words + j));
                o[2 * j] = fmaf(two.x, weight, o[2 * j]);
                o[2 * j + 1] = fmaf(two.y, weight, o[2 * j + 1]);
            }
        }
        const float share = total == 0.f ? 0.f : 1.f / total;
        const int64_t at = (row + head) * kWidth + 8 * piece;
        if (a.kind == kBf16) store_eight<__nv_bfloat16>(a.out, at, o, share);
        if (a.kind == kFp16) store_eight<__half>(a.out, at, o, share);
        if (a.kind == kFp32) store_eight<float>(a.out, at, o, share);
        if (piece == 0) a.lse[row + head] = top + log2f(total);
    }
}

}  // namespace octavo
