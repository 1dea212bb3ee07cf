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

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace {

constexpr int kHeads = 64, kWidth = 512, kPlain = 448, kRow = 584;
constexpr int kTile = 48;                            // keys multiplied at a time
constexpr int kUnit = 4, kTurns = kTile / kUnit / 4;  // rows that a warp decodes at a time; how often it does for a tile
constexpr int kSlots = 4;                            // units of a warp whose bytes are on the way
constexpr int kMain = 576;                           // bytes of a row without scales; a unit's lie behind its rows
constexpr int kPanel = kHeads * 128;                              // 64 FP16 channels of queries, swizzled by 128 bytes
constexpr int kRowPanel = kTile * 128;                            // and of a tile's rows
constexpr int kThreads = 512;
constexpr float kLowest = -1e30f;            // finite: a split without keys has weights of 0 and no NaN
constexpr float kLog2e = 1.4426950408889634f;

enum Selection { kNone = 0, kCausal = 1, kPicked = 2 };
enum Kind { kBf16 = 0, kFp16 = 1, kFp32 = 2 };

struct Shared {
    alignas(1024) uint8_t queries[8 * kPanel];
    uint8_t rows[2][8 * kRowPanel];
    uint8_t weights[2][kPanel];  // 64 keys wide, of which 48 are used
    uint8_t raw[4][kSlots][kUnit * kRow];  // of each warp of `rows`
    alignas(16) uint32_t seen[4][4];                   // of four tiles' keys a bit each, by the warp that decodes them
    float shrink[2][kHeads];  // what the sums so far are multiplied by
    float share[2][kHeads];   // what an item's sums are multiplied by at its end
    uint64_t decoded[2], weighed[2], released[2], ended[2];  // barriers
};

}  // namespace

extern "C" struct OctavoAttend {
    const void* q;             // [T, H, 512], BF16 or FP16
    const uint8_t* ring;       // [B, ring_length, 584]
    const uint8_t* store;      // [slots, 584]
    const int32_t* table;      // [B, pages]
    const int32_t* sequence;   // [T]
    const int32_t* position;   // [T]
    const int32_t* picks;      // [T, picked]
    const float* offset;       // [B] or null
    const float* sink;         // [H]
    void* out;                 // [T, H, 512], or [T, splits, H, 512]
    float* lse;                // [T, H], or [T, splits, H]
    int32_t tokens, heads, ring_length, pages, picked, window, splits, ratio_bits, per_page_bits, selection, kind, query_kind;
    float scale;
};

namespace {

// ---- barriers and products -------------------------------------------------------------------------------------------

__device__ __forceinline__ uint32_t address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void begin(uint64_t* barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(barrier)), "r"(count));
}

__device__ __forceinline__ void arrive(uint64_t* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(barrier)) : "memory");
}

__device__ __forceinline__ void wait(uint64_t* barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred p;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra AGAIN;\n"
        "DONE:\n}\n" ::"r"(address(barrier)), "r"(parity) : "memory");
}

// Before matrix products read what ordinary stores wrote.
__device__ __forceinline__ void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void together() { asm volatile("bar.sync 1, 128;" ::: "memory"); }  // a warpgroup, of `scores`

__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void products_end() {
    asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// A matrix in shared memory for a product: 128-byte swizzle, strides in bytes. With channels along the sum, `far` is the
// stride of 8 rows; with rows along it, `far` is that stride too and `near` that of 64 channels.
__device__ __forceinline__ uint64_t matrix(uint32_t at, uint32_t near, uint32_t far) {
    return uint64_t((at & 0x3FFFF) >> 4) | uint64_t(near >> 4) << 16 | uint64_t(far >> 4) << 32 | 1ull << 62;
}

#define SUMS4(x, i) "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3])
#define SUMS16(x, i) SUMS4(x, i), SUMS4(x, i + 4), SUMS4(x, i + 8), SUMS4(x, i + 12)

// s [64, 48] (+)= a [64, 16] b [48, 16]^T
__device__ __forceinline__ void multiply_scores(float (&s)[24], uint64_t a, uint64_t b, int add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %26, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n48k16.f32.f16.f16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23}, %24, %25, p, 1, 1, 0, 0;\n}\n"
        : SUMS16(s, 0), SUMS4(s, 16), SUMS4(s, 20)
        : "l"(a), "l"(b), "r"(add));
}

// o [64, 128] (+)= a [64, 16] b [16, 128]. Of 256 columns the instruction alone would want more registers than a thread
// has before `setmaxnreg`.
__device__ __forceinline__ void multiply_values(float (&o)[64], uint64_t a, uint64_t b, int add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1, 0, 1;\n}\n"
        : SUMS16(o, 0), SUMS16(o, 16), SUMS16(o, 32), SUMS16(o, 48)
        : "l"(a), "l"(b), "r"(add));
}

// ---- work ------------------------------------------------------------------------------------------------------------

// One work item and a tile of it. Tiles are counted over all items of a block: `count` says which buffer is whose.
struct Place {
    int item, token, group, split;
    int first, near, total;  // first token of the window, its rows, all keys
    int tile, end;
    int position, sequence;

    __device__ void enter(const OctavoAttend& a, int number) {
        item = number;
        const int groups = a.heads / kHeads;
        split = number % a.splits;
        group = number / a.splits % groups;
        token = number / (a.splits * groups);
        position = a.position[token];
        sequence = a.sequence[token];
        first = max(position - a.window + 1, 0);
        near = max(position + 1 - first, 0);
        total = near;
        if (a.selection == kCausal) total += min((position + 1) >> a.ratio_bits, a.pages << a.per_page_bits);
        if (a.selection == kPicked) total += a.picked;
        if (position < 0) total = 0;
        const int tiles = (total + kTile - 1) / kTile;
        tile = int(int64_t(split) * tiles / a.splits);
        end = int(int64_t(split + 1) * tiles / a.splits);
    }

    // The first tile from `number` on, in steps of the grid; false where there is none.
    __device__ bool find(const OctavoAttend& a, int number, int items) {
        for (; number < items; number += gridDim.x) {
            enter(a, number);
            if (tile < end) return true;
        }
        return false;
    }

    __device__ bool next(const OctavoAttend& a, int items) {
        return ++tile < end || find(a, item + gridDim.x, items);
    }
};

// A key on its way to the row it lies in, a step a group of keys: its entry number, its page, its address.
struct Key {
    const uint8_t* row;    // what is not seen is read from the token's own row, which is always there
    const int32_t* pages;  // of its sequence; null where `row` is known
    int entry, page;
    bool seen;

    __device__ __forceinline__ void number(const OctavoAttend& a, const Place& at, int j) {
        const uint8_t* ring = a.ring + int64_t(at.sequence) * a.ring_length * kRow;
        const int token = j < at.near ? at.first + j : at.position;
        row = ring + (token & (a.ring_length - 1)) * kRow;
        seen = j < at.total;
        pages = seen && j >= at.near ? a.table + int64_t(at.sequence) * a.pages : nullptr;
        entry = j - at.near;
        if (pages != nullptr && a.selection == kPicked) entry = __ldg(a.picks + int64_t(at.token) * a.picked + entry);
    }

    __device__ __forceinline__ void find_page(const OctavoAttend& a) {
        if (pages != nullptr && entry < 0) {
            pages = nullptr;
            seen = false;
        }
        if (pages != nullptr) page = __ldg(pages + (entry >> a.per_page_bits));
    }

    __device__ __forceinline__ void find_row(const OctavoAttend& a) {
        if (pages != nullptr)
            row = a.store + ((int64_t(page) << a.per_page_bits) + (entry & ((1 << a.per_page_bits) - 1))) * kRow;
    }
};

// ---- the warpgroup of rows -------------------------------------------------------------------------------------------

// Begin to bring a unit's bytes to shared memory. Eight threads share a row; of each group of 64 channels a thread has 8.
__device__ __forceinline__ void begin_unit(uint8_t* slot, const uint8_t* row, int lane) {
    const int eighth = lane & 7;
    const uint32_t to = address(slot) + (lane >> 3) * kMain + 8 * eighth;
    const uint8_t* from = row + 8 * eighth;
#pragma unroll
    for (int i = 0; i < 9; i++)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to + 64 * i), "l"(from + 64 * i) : "memory");
    if (eighth == 0)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(address(slot) + kUnit * kMain + lane), "l"(row + kMain)
                     : "memory");
}

__device__ __forceinline__ void mark_unit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

__device__ __forceinline__ uint32_t two_plain(uint32_t pair) {  // BF16 x 2 -> FP16 x 2
    const __half2 value = __floats2half2_rn(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u));
    return *reinterpret_cast<const uint32_t*>(&value);
}

// Four e4m3 codes, times a factor -> FP16 x 4.
__device__ __forceinline__ uint2 four_codes(uint32_t codes, uint32_t factor) {
    uint2 made;
    asm("{\n.reg .b16 low, high;\n.reg .b32 x, y;\nmov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 x, low;\ncvt.rn.f16x2.e4m3x2 y, high;\n"
        "mul.rn.f16x2 %0, x, %3;\nmul.rn.f16x2 %1, y, %3;\n}\n"
        : "=r"(made.x), "=r"(made.y) : "r"(codes), "r"(factor));
    return made;
}

// The scale 2^(code - 127) of group i as FP16 x 2. Codes from 113 to 128 are FP16 exponents but for their origin.
__device__ __forceinline__ uint32_t near_one(uint2 scales, int i) {
    const uint32_t code = __byte_perm(i < 4 ? scales.x : scales.y, 0, 0x4440 | (i & 3));
    return code * 0x04000400u - 112u * 0x04000400u;
}

__device__ __forceinline__ bool all_near_one(uint2 scales) {
    const uint32_t x = (scales.x + 0x0F0F0F0Fu) & 0xF0F0F0F0u, y = (scales.y + 0x000F0F0Fu) & 0x00F0F0F0u;
    return x == 0x80808080u && y == 0x00808080u;
}

__device__ __forceinline__ uint32_t any_scale(uint2 scales, int i) {
    const uint32_t code = __byte_perm(i < 4 ? scales.x : scales.y, 0, 0x4440 | (i & 3));
    const __half2 factor = __half2half2(__float2half_rn(__uint_as_float(code << 23)));
    return *reinterpret_cast<const uint32_t*>(&factor);
}

struct Words {
    uint2 codes[7], scales;
    uint4 rotary;

    __device__ __forceinline__ void read(const uint8_t* slot, int lane) {
        const int eighth = lane & 7;
        const uint8_t* from = slot + (lane >> 3) * kMain;
        scales = *reinterpret_cast<const uint2*>(slot + kUnit * kMain + (lane & 24));
#pragma unroll
        for (int i = 0; i < 7; i++) codes[i] = *reinterpret_cast<const uint2*>(from + 64 * i + 8 * eighth);
        rotary = *reinterpret_cast<const uint4*>(from + kPlain + 16 * eighth);
    }

    template <uint32_t (*kFactor)(uint2, int)>
    __device__ __forceinline__ void decode_codes(uint8_t* to) const {
#pragma unroll
        for (int i = 0; i < 7; i++) {
            const uint32_t factor = kFactor(scales, i);
            const uint2 low = four_codes(codes[i].x, factor), high = four_codes(codes[i].y, factor);
            *reinterpret_cast<uint4*>(to + i * kRowPanel) = {low.x, low.y, high.x, high.y};
        }
    }

    __device__ __forceinline__ void decode(uint8_t* rows, int row, int lane) const {
        uint8_t* to = rows + row * 128 + (((lane ^ row) & 7) << 4);
        if (__all_sync(0xFFFFFFFFu, all_near_one(scales)))
            decode_codes<near_one>(to);
        else
            decode_codes<any_scale>(to);
        *reinterpret_cast<uint4*>(to + 7 * kRowPanel) = {two_plain(rotary.x), two_plain(rotary.y), two_plain(rotary.z),
                                                         two_plain(rotary.w)};
    }
};

// Of each tile a warp decodes the units `warp`, `warp` + 4, `warp` + 8; a lane below 12 finds where one of their rows
// lies, in four steps a tile apart, since each waits for memory.
__device__ __forceinline__ void work_on_rows(const OctavoAttend& a, Shared& sm, int items, int warp, int lane) {
    const int mine = (lane / kUnit * 4 + warp) * kUnit + lane % kUnit;  // key of a tile
    const bool finds = lane < kTurns * kUnit;
    Place ahead;
    bool is[4];  // whether there are tiles: this one, the next, ..
    Key key[4];  // keys: address known thrice, entry
    is[0] = ahead.find(a, blockIdx.x, items);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i > 0) is[i] = is[i - 1] && ahead.next(a, items);
        if (is[i] && finds) key[i].number(a, ahead, ahead.tile * kTile + mine);
    }
#pragma unroll
    for (int i = 0; i < 3; i++)
        if (is[i] && finds) key[i].find_page(a);
#pragma unroll
    for (int i = 0; i < 3; i++)
        if (is[i] && finds) key[i].find_row(a);
    int unit = 0;  // of this warp, over all items
    // Bytes of unit `unit` + kSlots - 1 at most are asked for: kTurns ahead of a tile's first they are the next tile's.
    auto ask = [&](int number, const Key& from, int turn, bool there) {
        const uint64_t row = __shfl_sync(0xFFFFFFFFu, reinterpret_cast<uint64_t>(from.row), turn * kUnit + (lane >> 3));
        if (there) begin_unit(sm.raw[warp][number % kSlots], reinterpret_cast<const uint8_t*>(row), lane);
        mark_unit();
    };
    if (!is[0]) return;
#pragma unroll
    for (int i = 0; i < kSlots; i++) ask(i, key[i / kTurns], i % kTurns, is[i / kTurns]);
    Words words[2];  // at work, read
    auto take = [&](Words& into) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kSlots - 1) : "memory");
        __syncwarp();
        into.read(sm.raw[warp][unit % kSlots], lane);
        __syncwarp();
    };
    take(words[0]);
    for (int count = 0; is[0]; count++) {
        const int buffer = count & 1;
        const uint32_t seen = __ballot_sync(0xFFFFFFFFu, finds && key[0].seen);
        if (lane == 0) sm.seen[count & 3][warp] = seen;
#pragma unroll
        for (int turn = 0; turn < kTurns; turn++) {
            const int later = turn + kSlots;  // of this tile's units
            ask(unit + kSlots, key[later / kTurns], later % kTurns, is[later / kTurns]);
            unit++;
            take(words[1]);
            if (turn == 0) wait(&sm.released[buffer], ((count >> 1) & 1) ^ 1);
            words[0].decode(sm.rows[buffer], (turn * 4 + warp) * kUnit + (lane >> 3), lane);
            words[0] = words[1];
            if (turn == 1 && is[3] && finds) key[3].find_page(a);
        }
        publish();
        __syncwarp();
        if (lane == 0) arrive(&sm.decoded[buffer]);
#pragma unroll
        for (int i = 0; i < 3; i++) {
            is[i] = is[i + 1];
            key[i] = key[i + 1];
        }
        is[3] = is[2] && ahead.next(a, items);
        if (finds) {
            if (is[2]) key[2].find_row(a);
            if (is[3]) key[3].number(a, ahead, ahead.tile * kTile + mine);
        }
    }
}

// ---- the warpgroup of scores -----------------------------------------------------------------------------------------

// Bring the queries of an item to shared memory, as FP16.
__device__ __forceinline__ void load_queries(const OctavoAttend& a, Shared& sm, int token, int group, int thread) {
    const uint4* from =
        reinterpret_cast<const uint4*>(a.q) + (int64_t(token) * a.heads + group * kHeads) * (kWidth / 8) + thread;
    uint8_t* to = sm.queries + (thread & 63) / 8 * kPanel;
    together();  // all have done with those of the item before
#pragma unroll 1
    for (int i = 0; i < 32; i += 8) {
        uint4 x[8];
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = __ldg(from + (i + j) * 128);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const int row = (i + j) * 2 + (thread >> 6);
            if (a.query_kind == kBf16) x[j] = {two_plain(x[j].x), two_plain(x[j].y), two_plain(x[j].z), two_plain(x[j].w)};
            *reinterpret_cast<uint4*>(to + row * 128 + (((thread ^ row) & 7) << 4)) = x[j];
        }
    }
    publish();
    together();
}

__device__ __forceinline__ float power(float x) {  // 2^x
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ void work_on_scores(const OctavoAttend& a, Shared& sm, int items, int thread) {
    const int lane = thread & 31, head = (thread >> 5) * 16 + (lane >> 2), column = 2 * (lane & 3);
    int count = 0, ends = 0;
    const float scale = a.scale * kLog2e;
    Place at;
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        at.enter(a, item);
        const int64_t place = (int64_t(at.token) * a.splits + at.split) * a.heads + at.group * kHeads;
        const float level = a.offset == nullptr ? 0.f : a.offset[max(at.sequence, 0)] / a.scale;
        float top[2] = {kLowest, kLowest}, sum[2] = {0.f, 0.f};
        const bool some = at.tile < at.end;
        if (some) load_queries(a, sm, at.token, at.group, thread);
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
                a.lse[place + head + 8 * r] = reach;
            }
        }
        if (some) arrive(&sm.ended[ends++ & 1]);
    }
}

// ---- the warpgroups of values ----------------------------------------------------------------------------------------

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

__device__ __forceinline__ int tiles_of(const OctavoAttend& a, int item) {
    Place at;
    at.enter(a, item);
    return at.end - at.tile;
}

// Registers are scarce here: the sums take 128, and little else is kept from tile to tile.
__device__ __forceinline__ void work_on_values(const OctavoAttend& a, Shared& sm, int items, int half, int thread) {
    const int head = (thread >> 5) * 16 + ((thread & 31) >> 2);
    int count = 0, ends = 0;
    float o[2][64];
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        float share0 = 0.f, share1 = 0.f;
        const int tiles = tiles_of(a, item);
        if (tiles == 0) {
#pragma unroll
            for (int i = 0; i < 128; i++) o[i >> 6][i & 63] = 0.f;
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
        const int groups = a.heads / kHeads, token = item / (a.splits * groups);
        const int64_t row = (int64_t(token) * a.splits + item % a.splits) * a.heads + item / a.splits % groups * kHeads + head;
        const int channel = half * 256 + 2 * (thread & 3);
        if (a.kind == kBf16) store_sums<__nv_bfloat16>(a.out, row, o, share0, share1, channel);
        if (a.kind == kFp16) store_sums<__half>(a.out, row, o, share0, share1, channel);
        if (a.kind == kFp32) store_sums<float>(a.out, row, o, share0, share1, channel);
    }
}

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
        work_on_rows(a, sm, items, thread / 32, thread % 32);
    } else if (warpgroup == 1) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 88;");
        work_on_scores(a, sm, items, thread);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 160;");
        work_on_values(a, sm, items, warpgroup - 2, thread);
    }
}

}  // namespace

// Queue the kernel on `stream` with at most `blocks` blocks; the runtime's error code, 0 for none.
extern "C" int octavo_attend_sm90(const OctavoAttend* a, int blocks, cudaStream_t stream) {
    constexpr int kBytes = sizeof(Shared);
    static const cudaError_t allowed =
        cudaFuncSetAttribute(attend, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (allowed != cudaSuccess) return allowed;
    const int items = a->tokens * (a->heads / kHeads) * a->splits;
    if (items == 0) return cudaSuccess;
    attend<<<items < blocks ? items : blocks, kThreads, kBytes, stream>>>(*a, items);
    return cudaGetLastError();
}
