// The call, the work of a block, and its first warpgroup: where keys lie, their bytes to shared memory, decoded to FP16.
// See attend_sm90.cu.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include "hopper.cuh"

// In the order in which sm90.py writes it.
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

namespace octavo {

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
    float reach[kHeads];      // log sums of a part, where a cluster joins parts
    uint64_t decoded[2], weighed[2], released[2], ended[2];  // barriers
};

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
        tile = unsigned(split) * unsigned(tiles) / unsigned(a.splits);
        end = unsigned(split + 1) * unsigned(tiles) / unsigned(a.splits);
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

}  // namespace octavo
