// Attention of one token at a time over FP8 rows in pages, for Hopper GPUs (sm_90a): see sm90.py for the contract.
//
// The geometry is that of DeepSeek-V4: rows of 512 channels, 448 of them e4m3 in groups of 64 with an e8m0 scale each,
// then 64 in BF16; keys equal values; 64 heads are the rows of the matrix products. What Hopper lacks is a product of
// FP8 rows with scales inside, so rows are decoded to FP16 (exact but for values beyond its range), and the point of the
// kernel is to hide that. The warps of a block share the work of a tile of 48 keys:
//
//   rows     a warpgroup: finds where keys lie, copies their bytes to shared memory, decodes them; four rows a warp in turn
//   scores   a warpgroup: queries x keys, the online softmax, weights to shared memory
//   values   two warpgroups: weights x values, 256 channels each, sums in registers
//
// Two decoded tiles and the bytes of 64 more rows are on the way at a time. A block takes work items (token,
// 64 heads, split of the keys) in turn, and the rows of the next item are fetched while the last one ends.

#include <cuda_runtime.h>

#include "attend_sums.cuh"

namespace octavo {

// ---- the warpgroup of scores -----------------------------------------------------------------------------------------

// Bring the queries of an item to shared memory, as FP16, with kCount threads, kAtOnce pieces of 16 bytes each at a time.
template <int kCount, int kAtOnce>
__device__ __forceinline__ void load_queries(const OctavoAttend& a, Shared& sm, int token, int group, int thread) {
    const uint4* from =
        reinterpret_cast<const uint4*>(a.q) + (int64_t(token) * a.heads + group * kHeads) * (kWidth / 8) + thread;
    uint8_t* to = sm.queries + (thread & 63) / 8 * kPanel;
#pragma unroll 1
    for (int i = 0; i < kHeads * kWidth / 8 / kCount; i += kAtOnce) {
        uint4 x[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; j++) x[j] = __ldg(from + (i + j) * kCount);
#pragma unroll
        for (int j = 0; j < kAtOnce; j++) {
            const int row = (i + j) * (kCount / 64) + (thread >> 6);
            if (a.query_kind == kBf16) x[j] = {two_plain(x[j].x), two_plain(x[j].y), two_plain(x[j].z), two_plain(x[j].w)};
            *reinterpret_cast<uint4*>(to + row * 128 + (((thread ^ row) & 7) << 4)) = x[j];
        }
    }
    publish();
}

// What a block needs first is asked for before anything says where it is needed: picks of its first token and sinks ..
__device__ __forceinline__ void fetch_picks(const OctavoAttend& a, int thread) {
    const int token = blockIdx.x / (a.heads / kHeads * a.splits);
    if (a.selection == kPicked && 32 * thread < a.picked) fetch_line(a.picks + int64_t(token) * a.picked + 32 * thread);
    if (32 * thread < a.heads) fetch_line(a.sink + 32 * thread);
}

// .. its sequence's pages, while the picks are read, ..
__device__ __forceinline__ void fetch_pages(const OctavoAttend& a, int sequence, int thread) {
    if (a.selection != kNone && 32 * thread < a.pages) fetch_line(a.table + int64_t(max(sequence, 0)) * a.pages + 32 * thread);
}

// .. and an item's queries, by the two warpgroups of values.
__device__ __forceinline__ void fetch_queries(const OctavoAttend& a, int item, int thread) {
    const int64_t row = int64_t(item / a.splits) * kHeads;  // items count groups of a token before tokens
    const uint8_t* from = reinterpret_cast<const uint8_t*>(a.q) + row * (2 * kWidth) + 128 * thread;
    fetch_line(from);
    fetch_line(from + 128 * 256);
}

template <int kParts>
__device__ __forceinline__ void work_on_scores(const OctavoAttend& a, Shared& sm, int items, int thread) {
    const int lane = thread & 31, head = (thread >> 5) * 16 + (lane >> 2), column = 2 * (lane & 3);
    int count = 0, ends = 0;
    const float scale = a.scale * kLog2e;
    Place<kParts> at;
    fetch_picks(a, thread);
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        at.enter(a, item);
        if (item == blockIdx.x) fetch_pages(a, at.sequence, thread);
        const int64_t place = (int64_t(at.token) * a.splits + at.split) * a.heads + at.group * kHeads;
        const float level = a.offset == nullptr ? 0.f : a.offset[max(at.sequence, 0)] / a.scale;
        float top[2] = {kLowest, kLowest}, sum[2] = {0.f, 0.f};
        const bool some = at.tile < at.end;
        if (OCTAVO_SHARED_START && item == blockIdx.x) {
            await_values();
        } else if (some) {
            together();  // all have done with those of the item before
            load_queries<128, 16>(a, sm, at.token, at.group, thread);
            together();
        }
        for (; at.tile < at.end; at.tile++, count++) {
            const int buffer = count & 1;
            wait(&sm.decoded[buffer], (count >> 1) & 1);
            float s[24];
            const uint64_t q = matrix(address(sm.queries), 16, 1024), k = matrix(address(sm.rows[buffer]), 16, 1024);
            products_begin();
#pragma unroll
            for (int i = 0; i < 32; i++) {  // 16 channels each, 4 of them in a panel
                const int step = (i & 3) * 32;
                multiply_scores(s, q + (((i >> 2) * kPanel + step) >> 4), k + (((i >> 2) * kRowPanel + step) >> 4), i > 0);
            }
            const uint4 seen = *reinterpret_cast<const uint4*>(sm.seen[count & 3]);
            products_end();
            if (level != 0.f) {
                const int key = at.tile * kTile + column;
#pragma unroll
                for (int i = 0; i < 24; i++)
                    if (key + (i >> 2) * 8 + (i & 1) >= at.near) s[i] += level;
            }
            if ((seen.x & seen.y & seen.z & seen.w) != (1 << (kTurns * kUnit)) - 1) {
                const bool upper = column >= kUnit;  // key 8 i + column + (i & 1): unit 2 i or 2 i + 1, warp by warp
                const uint32_t even = upper ? seen.y : seen.x, odd = upper ? seen.w : seen.z;
#pragma unroll
                for (int i = 0; i < 24; i++)
                    if (!((i & 4 ? odd : even) >> ((i >> 3) * kUnit + (column & 3) + (i & 1)) & 1)) s[i] = -INFINITY;
            }
            float high[2] = {fmaxf(s[0], s[1]), fmaxf(s[2], s[3])};
#pragma unroll
            for (int i = 4; i < 24; i++) high[i >> 1 & 1] = fmaxf(high[i >> 1 & 1], s[i]);
#pragma unroll
            for (int step = 1; step < 4; step *= 2) {
#pragma unroll
                for (int r = 0; r < 2; r++) high[r] = fmaxf(high[r], __shfl_xor_sync(0xFFFFFFFFu, high[r], step));
            }
#pragma unroll
            for (int r = 0; r < 2; r++) {
                high[r] = fmaxf(top[r], high[r] * scale);
                const float shrink = power(top[r] - high[r]);
                top[r] = high[r];
                sum[r] *= shrink;
                if ((lane & 3) == 0) sm.shrink[buffer][head + 8 * r] = shrink;
            }
            uint8_t* to = sm.weights[buffer] + head * 128 + 2 * column;
#pragma unroll
            for (int i = 0; i < 24; i++) s[i] = power(fmaf(s[i], scale, -high[i >> 1 & 1]));
#pragma unroll
            for (int i = 0; i < 24; i += 2) {
                sum[i >> 1 & 1] += s[i] + s[i + 1];
                *reinterpret_cast<__half2*>(to + (i & 2) * 512 + ((i / 4 ^ (head & 7)) << 4)) = __floats2half2_rn(s[i], s[i + 1]);
            }
            publish();
            arrive(&sm.weighed[buffer]);
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float whole = sum[r];
#pragma unroll
            for (int step = 1; step < 4; step *= 2) whole += __shfl_xor_sync(0xFFFFFFFFu, whole, step);
            float share = whole == 0.f ? 0.f : 1.f / whole, reach = whole == 0.f ? -INFINITY : top[r] + log2f(whole);
            if (a.splits == 1) {
                const float own = a.sink[at.group * kHeads + head + 8 * r] * kLog2e, high = fmaxf(top[r], own);
                const float all = whole * power(top[r] - high) + power(own - high);
                share = power(top[r] - high) / all;
                reach = high + log2f(all);
            }
            if ((lane & 3) == 0) {
                if (some) sm.share[ends & 1][head + 8 * r] = share;
                (kParts > 1 ? sm.reach : a.lse + place)[head + 8 * r] = reach;
            }
        }
        if (some) arrive(&sm.ended[ends++ & 1]);
    }
}

// ---- the warpgroups of values ----------------------------------------------------------------------------------------

template <int kParts>
__device__ __forceinline__ int tiles_of(const OctavoAttend& a, int item) {
    Place<kParts> at;
    at.enter(a, item);
    return at.end - at.tile;
}

// Registers are scarce here: the sums take 128, and little else is kept from tile to tile.
template <int kParts>
__device__ __forceinline__ void work_on_values(const OctavoAttend& a, Shared& sm, int items, int half, int thread) {
    const int head = (thread >> 5) * 16 + ((thread & 31) >> 2);
    int count = 0, ends = 0;
    float o[2][64];
    if (OCTAVO_SHARED_START) {  // there is nothing else to do yet, and all of them are on the way at a time
        Place<kParts> at;
        at.locate(a, blockIdx.x);
        load_queries<256, 16>(a, sm, at.token, at.group, half * 128 + thread);
        tell_scores();
    } else {
        fetch_queries(a, blockIdx.x, half * 128 + thread);
    }
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        if (item + gridDim.x < items) fetch_queries(a, item + gridDim.x, half * 128 + thread);
        float share0 = 0.f, share1 = 0.f;
        const int tiles = tiles_of<kParts>(a, item);
        if (tiles == 0) {
#pragma unroll
            for (int i = 0; i < 128; i++) o[i >> 6][i & 63] = 0.f;
            if constexpr (kParts > 1) values_together();  // sums take the place of queries that none waited for
        }
        for (int left = tiles; left > 0; left--, count++) {
            const int buffer = count & 1;
            wait(&sm.weighed[buffer], (count >> 1) & 1);
            const float shrink0 = sm.shrink[buffer][head], shrink1 = sm.shrink[buffer][head + 8];
            if (left < tiles && __any_sync(0xFFFFFFFFu, shrink0 != 1.f || shrink1 != 1.f)) {
#pragma unroll
                for (int i = 0; i < 128; i++) o[i >> 6][i & 63] *= i & 2 ? shrink1 : shrink0;
            }
            const uint64_t w = matrix(address(sm.weights[buffer]), 16, 1024);
            const uint64_t v = matrix(address(sm.rows[buffer]) + half * 4 * kRowPanel, kRowPanel, 1024);
            products_begin();
#pragma unroll
            for (int i = 0; i < kTile / 8; i++)  // 16 keys, 128 channels each
                multiply_values(o[i & 1], w + (((i >> 1) * 32) >> 4), v + (((i & 1) * 2 * kRowPanel + (i >> 1) * 2048) >> 4),
                                i > 1 || left < tiles);
            products_end();
            if (left == 1) {  // read before the rows go back: `scores` can then be no two items ahead
                wait(&sm.ended[ends & 1], (ends >> 1) & 1);
                share0 = sm.share[ends & 1][head];
                share1 = sm.share[ends & 1][head + 8];
                ends++;
            }
            __syncwarp();
            if ((thread & 31) == 0) arrive(&sm.released[buffer]);
        }
        if constexpr (kParts > 1) {  // the only item
            keep_sums(sm, o, share0, share1, head, half, thread);
            return;
        }
        const int groups = a.heads / kHeads, token = item / (a.splits * groups);
        const int64_t row = (int64_t(token) * a.splits + item % a.splits) * a.heads + item / a.splits % groups * kHeads + head;
        const int channel = half * 256;
        if (a.kind == kBf16) store_sums<__nv_bfloat16>(a.out, row, o, share0, share1, channel, thread & 3);
        if (a.kind == kFp16) store_sums<__half>(a.out, row, o, share0, share1, channel, thread & 3);
        if (a.kind == kFp32) store_sums<float>(a.out, row, o, share0, share1, channel, thread & 3);
    }
}

// Where kParts blocks are a cluster they join their parts of a token's keys, and each has one item.
template <int kParts>
__global__ void __launch_bounds__(kThreads, 1) attend(const __grid_constant__ OctavoAttend a, int items) {
    extern __shared__ __align__(1024) uint8_t raw[];
    Shared& sm = *reinterpret_cast<Shared*>(raw);
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) {
            begin(&sm.decoded[i], 4);
            begin(&sm.weighed[i], 128);
            begin(&sm.released[i], 8);
            begin(&sm.ended[i], 128);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    const int warpgroup = threadIdx.x / 128, thread = threadIdx.x % 128;
    if (warpgroup == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 104;");
        work_on_rows<kParts>(a, sm, items, thread / 32, thread % 32);
        if constexpr (kParts > 1) cluster_together();
    } else if (warpgroup == 1) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 88;");
        work_on_scores<kParts>(a, sm, items, thread);
        if constexpr (kParts > 1) cluster_together();
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 160;");
        work_on_values<kParts>(a, sm, items, warpgroup - 2, thread);
        if constexpr (kParts > 1) {
            cluster_together();
            join_parts<kParts>(a, sm, blockIdx.x, threadIdx.x - 256);
        }
    }
    if constexpr (kParts > 1) cluster_together();  // no block leaves while another reads its sums
}

}  // namespace octavo

namespace octavo {

// How `blocks` blocks are launched, `parts` of them a cluster.
struct Launch {
    cudaLaunchAttribute attribute[1];
    cudaLaunchConfig_t config = {};

    Launch(int blocks, int parts, cudaStream_t stream) {
        attribute[0].id = cudaLaunchAttributeClusterDimension;
        attribute[0].val.clusterDim = {unsigned(parts), 1, 1};
        config.gridDim = dim3(blocks);
        config.blockDim = dim3(kThreads);
        config.dynamicSmemBytes = sizeof(Shared);
        config.stream = stream;
        config.attrs = attribute;
        config.numAttrs = parts > 1;
    }
    Launch(const Launch&) = delete;  // `config` points into it
};

using Kernel = void (*)(OctavoAttend, int);

// The kernel for clusters of so many blocks, allowed its shared memory; null where there is none.
Kernel kernel_of(int parts) {
    Kernel found = nullptr;
    if (parts == 1) found = attend<1>;
    if (parts == 2) found = attend<2>;
    if (parts == 3) found = attend<3>;
    if (parts == 4) found = attend<4>;
    if (parts == 8) found = attend<8>;
    if (found && cudaFuncSetAttribute(found, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared)) != cudaSuccess)
        found = nullptr;
    return found;
}

}  // namespace octavo

// Clusters of `parts` blocks (2, 3, 4, 8) that the device runs at a time, 0 for none.
extern "C" int octavo_attend_sm90_clusters(int parts) {
    const octavo::Kernel kernel = octavo::kernel_of(parts);
    octavo::Launch launch(parts, parts, nullptr);
    int count = 0;
    if (!kernel || cudaOccupancyMaxActiveClusters(&count, kernel, &launch.config) != cudaSuccess) count = 0;
    return count;
}

// Queue the kernel on `stream` with at most `blocks` blocks, or a block for every item where `joined` says that the
// blocks of a token's splits are to join them; the runtime's error code, 0 for none.
extern "C" int octavo_attend_sm90(const OctavoAttend* a, int blocks, int joined, cudaStream_t stream) {
    const int items = a->tokens * (a->heads / octavo::kHeads) * a->splits, parts = joined ? a->splits : 1;
    if (items == 0) return cudaSuccess;
    const octavo::Kernel kernel = octavo::kernel_of(parts);
    if (!kernel) return cudaErrorInvalidValue;
    octavo::Launch launch(joined || items < blocks ? items : blocks, parts, stream);
    return cudaLaunchKernelEx(&launch.config, kernel, *a, items);
}
