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

// What -D may change, to measure what it brings: picks are read before the position is known; the first queries are
// brought by the warpgroups of values; a warp's turns at a tile are a loop rather than code for each; four lanes exchange
// sums for wide stores; of so many heads the parts are read at a time.
#ifndef OCTAVO_EARLY
#define OCTAVO_EARLY 1
#endif
#ifndef OCTAVO_SHARED_START
#define OCTAVO_SHARED_START 1
#endif
#ifndef OCTAVO_LOOP
#define OCTAVO_LOOP 0
#endif
#ifndef OCTAVO_QUADS
#define OCTAVO_QUADS 1
#endif
#ifndef OCTAVO_JOIN
#define OCTAVO_JOIN 4
#endif

namespace octavo {

constexpr int kHeads = 64, kWidth = 512, kPlain = 448, kRow = 584;
constexpr int kTile = 48;                            // keys multiplied at a time
constexpr int kUnit = 4, kTurns = kTile / kUnit / 4;  // rows that a warp decodes at a time; how often it does for a tile
constexpr int kTurnsAtOnce = OCTAVO_LOOP ? 1 : kTurns;  // code for so many of a warp's turns at a tile
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

// A word that no write of the kernel changes. Volatile: the compiler leaves the reading where it stands.
__device__ __forceinline__ int32_t word(const int32_t* from) {
    int32_t x;
    asm volatile("ld.global.nc.s32 %0, [%1];" : "=r"(x) : "l"(from));
    return x;
}

// One work item and a tile of it. Tiles are counted over all items of a block: `count` says which buffer is whose.
template <int kParts>
struct Place {
    int item, token, group, split;
    int first, near, total;  // first token of the window, its rows, all keys
    int tile, end;
    int position, sequence;

    // What its number alone says.
    __device__ __forceinline__ void locate(const OctavoAttend& a, int number) {
        const unsigned parts = kParts > 1 ? kParts : a.splits, groups = a.heads / kHeads;
        item = number;
        const unsigned whole = unsigned(number) / parts;
        split = number - whole * parts;
        token = whole / groups;
        group = whole - token * groups;
    }

    // Its share of the tiles of `total` keys.
    __device__ __forceinline__ void cut(const OctavoAttend& a) {
        const unsigned parts = kParts > 1 ? kParts : a.splits, tiles = (total + kTile - 1) / kTile;
        const int each = tiles / parts, more = tiles - each * parts;
        tile = split * each + min(split, more);
        end = tile + each + (split < more);
    }

    __device__ __forceinline__ void enter(const OctavoAttend& a, int number) {
        locate(a, number);
        sequence = word(a.sequence + token);  // or else it is read where it is first used, long behind the position
        position = __ldg(a.position + token);
        first = max(position - a.window + 1, 0);
        near = max(position + 1 - first, 0);
        total = near;
        if (a.selection == kCausal) total += min((position + 1) >> a.ratio_bits, a.pages << a.per_page_bits);
        if (a.selection == kPicked) total += a.picked;
        if (position < 0) total = 0;
        cut(a);
    }

    // Before the first tile of a block.
    __device__ __forceinline__ void begin() {
        item = blockIdx.x - gridDim.x;
        tile = end = 0;
    }

    // The next tile of this item or of one a step of the grid further; false where there is none.
    __device__ __forceinline__ bool next(const OctavoAttend& a, int items) {
        if (++tile < end) return true;
        for (int number = item + gridDim.x; number < items; number += gridDim.x) {
            enter(a, number);
            if (tile < end) return true;
        }
        return false;
    }
};

// A key on its way to the row it lies in, a step a group of keys: its entry's number, its page, its address.
struct Key {
    const uint8_t* row = nullptr;    // what is not seen is read from the token's own row, which is always there
    const int32_t* pages = nullptr;  // of its sequence; null where `row` is known
    const int32_t* pick = nullptr;   // where `entry` is to be read; null where it is known
    int entry = 0, page = 0;
    bool seen = false;

    template <int kParts>
    __device__ __forceinline__ void number(const OctavoAttend& a, const Place<kParts>& at, int j) {
        const uint8_t* ring = a.ring + int64_t(at.sequence) * a.ring_length * kRow;
        const int token = j < at.near ? at.first + j : at.position;
        row = ring + (token & (a.ring_length - 1)) * kRow;
        seen = j < at.total;
        entry = j - at.near;
        const bool stored = seen && entry >= 0;
        pages = stored ? a.table + int64_t(at.sequence) * a.pages : nullptr;
        pick = stored && a.selection == kPicked ? a.picks + int64_t(at.token) * a.picked + entry : nullptr;
    }

    __device__ __forceinline__ void read_pick() {
        if (pick != nullptr) entry = __ldg(pick);
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

// Picks of key `mine` of the first four tiles of item `number` as they are where its token's window is full, which asks
// for nothing that has to be read before.
template <int kParts>
__device__ __forceinline__ void read_early(const OctavoAttend& a, int number, int mine, int (&early)[4]) {
    Place<kParts> at;
    at.locate(a, number);
    at.total = a.window + a.picked;
    at.cut(a);
    const int32_t* picks = a.picks + int64_t(at.token) * a.picked;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int entry = (at.tile + i) * kTile + mine - a.window;
        if (at.tile + i < at.end && entry >= 0 && entry < a.picked) early[i] = word(picks + entry);
    }
}

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

// The keys of a warp's lanes in four tiles: address known thrice, entry; and whether there are such tiles.
struct Ahead {
    Key key[4];
    bool is[4] = {false, false, false, false};

    template <int kFirst>
    __device__ __forceinline__ void shift() {
#pragma unroll
        for (int i = kFirst; i < 3; i++) {
            is[i] = is[i + 1];
            key[i] = key[i + 1];
        }
    }

    // Number those of the first tiles, and find the page of the very first, which the others' numbers do not wait for.
    // Only lanes of which `finds` holds read anything, each for key `mine` of a tile.
    template <int kParts>
    __device__ __forceinline__ void start(const OctavoAttend& a, Place<kParts>& at, int items, int mine, bool finds) {
        int early[4] = {0, 0, 0, 0}, known = 0;
        const bool guess = OCTAVO_EARLY && a.selection == kPicked && finds;
        if (guess) read_early<kParts>(a, blockIdx.x, mine, early);
        at.begin();
        is[0] = at.next(a, items);
        if (!is[0]) return;
        if (guess && at.item == blockIdx.x && at.near == a.window) known = at.end - at.tile;
        auto read = [&](int i) {
            if (i >= known)
                key[i].read_pick();
            else if (key[i].pick != nullptr)
                key[i].entry = early[i];
        };
        key[0].number(a, at, at.tile * kTile + mine);
        if (finds) {
            read(0);
            key[0].find_page(a);
        }
#pragma unroll 1
        for (int i = 1; i < 4; i++) {  // a loop: code that is not there yet costs more than a few instructions
            shift<1>();
            is[3] = (i == 1 || is[2]) && at.next(a, items);
            if (is[3]) key[3].number(a, at, at.tile * kTile + mine);
        }
#pragma unroll
        for (int i = 1; i < 4; i++)
            if (is[i] && finds) read(i);
    }
};

// Of each tile a warp decodes the units `warp`, `warp` + 4, `warp` + 8; a lane below 12 finds where one of their rows
// lies, in four steps a tile apart, since each waits for memory.
template <int kParts>
__device__ __forceinline__ void work_on_rows(const OctavoAttend& a, Shared& sm, int items, int warp, int lane) {
    const int mine = (lane / kUnit * 4 + warp) * kUnit + lane % kUnit;  // key of a tile
    const bool finds = lane < kTurns * kUnit;
    Place<kParts> at;
    Ahead ahead;
    ahead.start(a, at, items, mine, finds);
    auto& [key, is] = ahead;
    int unit = 0;  // of this warp, over all items
    // Bytes of unit `unit` + kSlots - 1 at most are asked for: kTurns ahead of a tile's first they are the next tile's.
    auto ask = [&](int number, const uint8_t* from, int turn, bool there) {
        const uint64_t row = __shfl_sync(0xFFFFFFFFu, reinterpret_cast<uint64_t>(from), turn * kUnit + (lane >> 3));
        if (there) begin_unit(sm.raw[warp][number % kSlots], reinterpret_cast<const uint8_t*>(row), lane);
        mark_unit();
    };
    if (!is[0]) return;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        if (i > 0 && is[i] && finds) key[i].find_page(a);
    }
#pragma unroll
    for (int i = 0; i < 3; i++) {
        if (is[i] && finds) key[i].find_row(a);
        if (i == 0) {
#pragma unroll
            for (int turn = 0; turn < kTurns; turn++) ask(turn, key[0].row, turn, true);
        }
        if (i == 1) ask(kTurns, key[1].row, 0, is[1]);
    }
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
        static_assert(kSlots == kTurns + 1);  // so `later` is of the next tile, or the first of the one behind it
#pragma unroll(kTurnsAtOnce)
        for (int turn = 0; turn < kTurns; turn++) {
            const int later = turn + 1 < kTurns ? turn + 1 : 0;
            ask(unit + kSlots, later ? key[1].row : key[2].row, later, later ? is[1] : is[2]);
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
        ahead.shift<0>();
        is[3] = is[2] && at.next(a, items);
        if (finds) {
            if (is[2]) key[2].find_row(a);
            if (is[3]) {
                key[3].number(a, at, at.tile * kTile + mine);
                key[3].read_pick();
            }
        }
    }
}

}  // namespace octavo
