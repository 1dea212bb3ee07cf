// What each query holds on to of a tile of keys, for scan.cpp: a part of it, so everything is in its own namespace.

#pragma once

#include "scan_choose.h"

namespace {

constexpr int kShared = 32;  // queries that pass over a chunk of keys while it is in the first-level cache
constexpr int kEarly = 128;  // times k: keys after which a query's level rules out enough by some heads alone

#ifdef OCTAVO_X86

// Entries of one query that may be among its best k, ascending, and what their scores are at least and at most.
struct Held {
  std::vector<float> least, most;
  std::vector<int32_t> entries;
  int count, enough;  // with more than `enough` it is worth to look for a higher level
  float level;        // at least k scores are greater

  void clear(int k) { count = 0, enough = k + k / 2, level = kNone; }

  // Room for more entries, and for a register beyond them.
  void room(int more) {
    const size_t size = size_t(count + more) + kLanes;
    if (most.size() < size) least.resize(size), most.resize(size), entries.resize(size);
  }
};

// Leaves out what does not reach the level: it is less than k others. NaN stay.
__attribute__((target("avx2,fma"))) inline void leave_out(Avx2, Held& held) {
  const __m256 level = _mm256_set1_ps(held.level);
  float *least = held.least.data(), *most = held.most.data();
  int kept = 0;
  for (int i = 0; i < held.count; i += 8) {
    unsigned bits = unsigned(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(most + i), level, _CMP_NLT_UQ)));
    if (held.count - i < 8) bits &= (1u << (held.count - i)) - 1;
    for (; bits; bits &= bits - 1, ++kept) {
      const int from = i + __builtin_ctz(bits);
      least[kept] = least[from], most[kept] = most[from], held.entries[kept] = held.entries[from];
    }
  }
  held.count = kept;
}

__attribute__((target(OCTAVO_AVX512))) inline void leave_out(Vnni, Held& held) {
  const __m512 level = _mm512_set1_ps(held.level);
  float *least = held.least.data(), *most = held.most.data();
  int32_t* entries = held.entries.data();
  int kept = 0;
  for (int i = 0; i < held.count; i += 16) {
    const __m512 low = _mm512_loadu_ps(least + i), high = _mm512_loadu_ps(most + i);
    const __m512i entry = _mm512_loadu_si512(entries + i);
    unsigned bits = _mm512_cmp_ps_mask(high, level, _CMP_NLT_UQ);
    if (held.count - i < 16) bits &= (1u << (held.count - i)) - 1;
    _mm512_storeu_ps(least + kept, _mm512_maskz_compress_ps(__mmask16(bits), low));
    _mm512_storeu_ps(most + kept, _mm512_maskz_compress_ps(__mmask16(bits), high));
    _mm512_storeu_si512(entries + kept, _mm512_maskz_compress_epi32(__mmask16(bits), entry));
    kept += __builtin_popcount(bits);
  }
  held.count = kept;
}

// Looks for a higher level.
template <class Form>
void shrink(Held& held, int k) {
  const float found = below_the_best(held.least.data(), held.count, k);
  if (found > held.level) {
    held.level = found;
    leave_out(Form{}, held);
  }
  held.enough = std::max(k + k / 2, held.count + held.count / 4);
}

// Groups of a tile, ascending, that a query has scored by the heads that raise scores, and that wait for the others.
struct Waiting {
  alignas(64) float totals[2 * kChunk];
  int groups[2 * kGroups], count = 0;
};

// Adds those of `count` groups, the first of which is group `first` of a tile, with a key whose score may not be less
// than `level`, by totals [kChunk] of the heads that raise scores. NaN are not less.
__attribute__((target(OCTAVO_AVX512))) inline void wait(Vnni, const Rounded& q, const float* totals, const Tile& tile,
                                                        int first, int count, float level, Waiting& waiting) {
  const __m512 least = _mm512_set1_ps(level), of_norm = _mm512_set1_ps(q.plus_slack.of_norm),
               of_error = _mm512_set1_ps(q.plus_slack.of_error);
  int to = waiting.count;
  for (int g = 0; g < count; ++g) {
    const int at = (first + g) * kLanes;
    const __m512 total = _mm512_load_ps(totals + g * kLanes);
    const __m512 slack = _mm512_fmadd_ps(of_norm, _mm512_loadu_ps(tile.at.norm + at),
                                         _mm512_mul_ps(of_error, _mm512_loadu_ps(tile.at.error + at)));
    const __m512 most = _mm512_fmadd_ps(total, _mm512_loadu_ps(tile.at.scale + at), slack);
    _mm512_store_ps(waiting.totals + to * kLanes, total);
    waiting.groups[to] = first + g;
    to += _mm512_cmp_ps_mask(most, least, _CMP_NLT_UQ) != 0;
  }
  waiting.count = to;
}

__attribute__((target("avx2,fma"))) inline void wait(Avx2, const Rounded& q, const float* totals, const Tile& tile,
                                                     int first, int count, float level, Waiting& waiting) {
  const __m256 least = _mm256_set1_ps(level), of_norm = _mm256_set1_ps(q.plus_slack.of_norm),
               of_error = _mm256_set1_ps(q.plus_slack.of_error);
  int to = waiting.count;
  for (int g = 0; g < count; ++g) {
    int reach = 0;
    for (int half = 0; half < kLanes; half += 8) {
      const int at = (first + g) * kLanes + half;
      const __m256 total = _mm256_load_ps(totals + g * kLanes + half);
      const __m256 slack = _mm256_fmadd_ps(of_norm, _mm256_loadu_ps(tile.at.norm + at),
                                           _mm256_mul_ps(of_error, _mm256_loadu_ps(tile.at.error + at)));
      const __m256 most = _mm256_fmadd_ps(total, _mm256_loadu_ps(tile.at.scale + at), slack);
      _mm256_store_ps(waiting.totals + to * kLanes + half, total);
      reach |= _mm256_movemask_ps(_mm256_cmp_ps(most, least, _CMP_NLT_UQ));
    }
    waiting.groups[to] = first + g;
    to += reach != 0;
  }
  waiting.count = to;
}

// Adds the keys of `count` groups of a tile, by totals of all heads, but those whose scores are less than the level.
// NaN are not less. The tile begins with entry `base`, and its keys before `visible` count.
__attribute__((target("avx2,fma"))) inline void hold(Avx2, const float* totals, const int* groups, int count,
                                                     const Rounded& q, const Tile& tile, int visible, int64_t base,
                                                     Held& held) {
  const __m256 level = _mm256_set1_ps(held.level), of_norm = _mm256_set1_ps(q.slack.of_norm),
               of_error = _mm256_set1_ps(q.slack.of_error);
  alignas(32) float least[kLanes], most[kLanes];
  for (int g = 0; g < count; ++g) {
    const int at = groups[g] * kLanes;
    unsigned bits = 0;
    for (int half = 0; half < kLanes; half += 8) {
      const __m256 score = _mm256_mul_ps(_mm256_load_ps(totals + g * kLanes + half),
                                         _mm256_loadu_ps(tile.at.scale + at + half));
      const __m256 slack = _mm256_fmadd_ps(of_norm, _mm256_loadu_ps(tile.at.norm + at + half),
                                           _mm256_mul_ps(of_error, _mm256_loadu_ps(tile.at.error + at + half)));
      const __m256 high = _mm256_add_ps(score, slack);
      _mm256_store_ps(least + half, _mm256_sub_ps(score, slack)), _mm256_store_ps(most + half, high);
      bits |= unsigned(_mm256_movemask_ps(_mm256_cmp_ps(high, level, _CMP_NLT_UQ))) << half;
    }
    if (visible - at < kLanes) bits &= (1u << (visible - at)) - 1;
    for (; bits; bits &= bits - 1) {
      const int i = __builtin_ctz(bits), to = held.count++;
      held.least[to] = least[i], held.most[to] = most[i], held.entries[to] = int32_t(base + at + i);
    }
  }
}

__attribute__((target(OCTAVO_AVX512))) inline void hold(Vnni, const float* totals, const int* groups, int count,
                                                        const Rounded& q, const Tile& tile, int visible, int64_t base,
                                                        Held& held) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 level = _mm512_set1_ps(held.level), of_norm = _mm512_set1_ps(q.slack.of_norm),
               of_error = _mm512_set1_ps(q.slack.of_error);
  __m512 least[kGroups], most[kGroups];
  __mmask16 reach[kGroups];
  unsigned some = 0;
  for (int g = 0; g < count; ++g) {
    const int at = groups[g] * kLanes;
    const __m512 score = _mm512_mul_ps(_mm512_load_ps(totals + g * kLanes), _mm512_loadu_ps(tile.at.scale + at));
    const __m512 slack = _mm512_fmadd_ps(of_norm, _mm512_loadu_ps(tile.at.norm + at),
                                         _mm512_mul_ps(of_error, _mm512_loadu_ps(tile.at.error + at)));
    least[g] = _mm512_sub_ps(score, slack), most[g] = _mm512_add_ps(score, slack);
    reach[g] = _mm512_cmp_ps_mask(most[g], level, _CMP_NLT_UQ);
    if (visible - at < kLanes) reach[g] &= __mmask16((1u << (visible - at)) - 1);
    some |= unsigned(reach[g] != 0) << g;
  }
  int to = held.count;
  for (; some; some &= some - 1) {
    const int g = __builtin_ctz(some);
    const __m512i entries = _mm512_add_epi32(_mm512_set1_epi32(int32_t(base) + groups[g] * kLanes), lanes);
    _mm512_storeu_ps(held.least.data() + to, _mm512_maskz_compress_ps(reach[g], least[g]));
    _mm512_storeu_ps(held.most.data() + to, _mm512_maskz_compress_ps(reach[g], most[g]));
    _mm512_storeu_si512(held.entries.data() + to, _mm512_maskz_compress_epi32(reach[g], entries));
    to += __builtin_popcount(reach[g]);
  }
  held.count = to;
}

// Scores the first groups that wait, as many as a chunk has, by the other heads and takes them into what is held.
template <class Form>
void settle(const Call& call, const Rounded& q, const Tile& tile, int visible, int64_t base, Waiting& waiting,
            Held& held) {
  const int count = std::min(waiting.count, kGroups);
  const Chunk chunk(tile, call.J, [&](int g) { return waiting.groups[std::min(g, count - 1)]; });
  add_heads(Form{}, q, q.plus, q.heads(), chunk, call.J, waiting.totals);
  hold(Form{}, waiting.totals, waiting.groups, count, q, tile, visible, base, held);
  std::copy(waiting.totals + count * kLanes, waiting.totals + waiting.count * kLanes, waiting.totals);
  std::copy(waiting.groups + count, waiting.groups + waiting.count, waiting.groups);
  waiting.count -= count;
}

// Holds of each query from `first` on what may be among its best of a tile that begins with entry `base`. Once levels
// are high, most groups are ruled out by the heads that raise scores alone.
template <class Form>
void hold_tile(const Call& call, const Rounded* rounded, int first, int S, const Tile& tile, int64_t base, Held* held) {
  alignas(64) float totals[kChunk];
  Waiting waiting[kShared];
  int visible[kShared], groups[kGroups];
  for (int s = 0; s < S; ++s) {
    visible[s] = int(std::max<int64_t>(0, std::min<int64_t>(tile.count, call.seen[first + s] - base)));
    held[s].room(tile.count);
  }
  const bool early = base < int64_t(kEarly) * call.k;
  for (int at = 0; at < tile.count; at += kChunk) {
    const Chunk chunk = chunk_at(tile, at / kLanes, call.J);
    std::iota(groups, groups + kGroups, at / kLanes);
    const uint8_t* next = tile.at.bytes + size_t(at + kChunk) * call.J;  // each query fetches a share of it
    const int share = (kChunk * call.J / 64 + S - 1) / S * 64;
    for (int s = 0; s < S; ++s) {  // while the chunk is in the first-level cache
      const Rounded& q = rounded[s];
      for (int b = 0; b < share; b += 64) __builtin_prefetch(next + s * share + b);
      const int count = std::min(kGroups, (visible[s] - at + kLanes - 1) / kLanes);
      if (count <= 0) continue;
      add_heads(Form{}, q, 0, q.plus, chunk, call.J, totals);
      if (early || q.plus == call.I) {
        add_heads(Form{}, q, q.plus, call.I, chunk, call.J, totals);
        hold(Form{}, totals, groups, count, q, tile, visible[s], base, held[s]);
      } else {
        wait(Form{}, q, totals, tile, groups[0], count, held[s].level, waiting[s]);
        if (waiting[s].count >= kGroups) settle<Form>(call, q, tile, visible[s], base, waiting[s], held[s]);
      }
    }
  }
  for (int s = 0; s < S; ++s)
    if (waiting[s].count) settle<Form>(call, rounded[s], tile, visible[s], base, waiting[s], held[s]);
}

#endif

}  // namespace
