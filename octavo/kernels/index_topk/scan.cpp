// Exact top-k of index scores on x86 processors, a tile of keys at a time.
//
// Scores are sum_i w_i relu(q_i . key). Keys become bytes once, for all queries. Products of bytes give scores with a
// bound on their error, so that only keys that may be among a query's k best are scored in FP32. The result is that of
// scoring every key in FP32: a key is passed over only where k others surely have higher scores.
//
// With rounded q', k' a score is off by at most sum_i |w_i| (|(q_i - q'_i) . k| + |q'_i . (k - k')|), each part of
// which is at most a factor of the query times |k|, or |k - k'| (`largest` has these factors). Sums in FP32, of these
// scores and of those that decide, round: the factor of |k| has (J + I + 32) 2^-23 sum_i |w_i| |q_i| more for them.
//
// Heads with w_i <= 0 only lower a score: what the others give, and the bound of their own error, is the most that it
// can be. Most groups of keys are ruled out by that, before the heads that lower scores are looked at.
//
// A query keeps of each key the least and the most that its score can be. k keys whose least is above a level rule out
// those whose most is below it. At the end the keys that are probably the best are scored in FP32; the k-th of these
// scores rules out most of what is left.
//
// Covers: queries of one sequence with ascending numbers of visible keys. Ties go to the lower key. Built as a plain
// shared library without any other; Python calls it through ctypes, which lets other threads run.

#include <atomic>
#include <chrono>

#include "scan_fold.h"

namespace {

std::atomic<int64_t> spent{0};  // nanoseconds of octavo_select_timed

#ifdef OCTAVO_X86

// A loop's items on several threads (`octavo_step_run` in octavo/kernels/step), null: one after the other.
using Run = void (*)(int threads, int items, void (*item)(void*, int), void* context);

template <class Work>
void share(Run run, int threads, int items, const Work& work) {
  const auto item = [](void* to, int i) { (*static_cast<const Work*>(to))(i); };
  if (run) return run(threads, items, item, const_cast<Work*>(&work));
  for (int i = 0; i < items; ++i) work(i);
}

constexpr int64_t kPart = 2048;  // keys of an item in FP32
constexpr int kTile = 8192;      // keys of an item in four bits: 256 KB of 64-wide keys, in the second-level cache
constexpr int kListed = 64;      // listed keys of an item
constexpr int kBorder = 16;      // tokens: behind the last multiple of so many, and of a block, every entry is scored

// Entries of one place that an item of a loop takes; its scores begin with number `at` of those of all items.
struct Part {
  const Place* place;
  int64_t lo, hi;
  size_t at = 0;
};

// The largest of a chunk's numbers in each lane: tops [kLanes].
__attribute__((target("avx2,fma"))) inline void top_lanes(const float* values, float* tops) {
  for (int lane = 0; lane < kLanes; lane += 8) {
    __m256 most = _mm256_set1_ps(kNone);
    for (int g = 0; g < kGroups; ++g) most = _mm256_max_ps(_mm256_loadu_ps(values + g * kLanes + lane), most);
    _mm256_storeu_ps(tops + lane, most);
  }
}

// The `most` best coarse keys of each query by its folded heads, ascending: found[s]. Query s sees those below
// known[s]. What so many keys of all surely beat rules out more than what those of a part do: all are scored first.
template <class Form>
void best_folded(Run run, int threads, const Call& call, const Place* coarse, int count, const int64_t* known,
                 int most, std::vector<std::vector<int32_t>>& found) {
  const int S = call.S, J = call.J;
  std::vector<Part> parts;
  size_t room = 0;  // whole chunks a part: places may be of few keys each
  for (const Place* place = coarse; place < coarse + count; ++place) {
    const int64_t stop = std::min(place->stop, known[S - 1]);
    for (int64_t lo = place->base; lo < stop; lo += kTile) {
      parts.push_back({place, lo, std::min(lo + kTile, stop), room});
      room += size_t(parts.back().hi - lo + kChunk - 1) / kChunk * kChunk;
    }
  }
  Vectors folded;
  folded.clear(S, J);
  std::vector<float> one(J), whole;
  for (int s = 0; s < S; ++s) fold<Form>(call, s, coarse, known[s], one.data()), folded.set(s, one.data());
  const int n = int(parts.size());
  static thread_local std::vector<float> held_scores, held_tops;  // not made anew for every step
  held_scores.resize(std::max(held_scores.size(), S * room));
  held_tops.resize(std::max(held_tops.size(), S * room / kGroups));
  float *scores = held_scores.data(), *tops = held_tops.data();
  share(run, threads, n, [&](int i) {
    const Part& part = parts[i];
    score_folded<Form>(folded, *part.place, part.lo, int(part.hi - part.lo), scores + part.at, room);
    for (int s = 0; s < S; ++s)
      for (int at = 0; at + kChunk <= part.hi - part.lo; at += kChunk) {
        const size_t own = s * room + part.at + at;
        top_lanes(scores + own, tops + own / kGroups);
      }
  });
  const auto visible = [&](int i, int s) {
    return int(std::max<int64_t>(0, std::min(parts[i].hi, known[s]) - parts[i].lo));
  };
  found.assign(S, {});
  for (int s = 0; s < S; ++s) {
    whole.clear();
    for (int i = 0; i < n; ++i) {
      const float* top = tops + (s * room + parts[i].at) / kGroups;
      whole.insert(whole.end(), top, top + visible(i, s) / kChunk * kLanes);  // over visible keys alone
    }
    const float level = below_the_best(whole.data(), int(whole.size()), most);
    std::vector<float> reached;
    std::vector<int32_t> places(kTile);
    for (int i = 0; i < n; ++i) {
      const float* own = scores + s * room + parts[i].at;
      const int some = list_above(own, visible(i, s), level, places.data());
      for (int f = 0; f < some; ++f)
        reached.push_back(own[places[f]]), found[s].push_back(places[f] + int32_t(parts[i].lo));
    }
    found[s].resize(choose<Form>(reached.data(), found[s].data(), int(reached.size()), most));
  }
}

// The best k of each query among the keys of all places, ascending: found[s].
template <class Form>
void best_of(Run run, int threads, const Call& call, Bests& found) {
  std::vector<Part> parts;
  const int64_t end = call.S ? call.seen[call.S - 1] : 0;
  for (const Place* place = call.places; place < call.places + call.count; ++place) {
    const int64_t stop = std::min(place->stop, end);
    for (int64_t lo = place->base; lo < stop; lo += kPart) parts.push_back({place, lo, std::min(lo + kPart, stop)});
  }
  std::vector<Bests> bests(parts.size());
  share(run, threads, int(parts.size()), [&](int i) { read_all<Form>(call, parts[i].lo, parts[i].hi, bests[i]); });
  found.assign(call.S, {});
  for (int s = 0; s < call.S; ++s) {
    for (const Bests& part : bests) found[s].insert(found[s].end(), part[s].begin(), part[s].end());
    keep_best(found[s], call.k);
  }
}

// The best k of query s among listed entries, which ascend.
template <class Form>
void best_listed(Run run, int threads, const Call& call, int s, const std::vector<int32_t>& entries,
                 std::vector<Scored>& best) {
  std::vector<float> scores(entries.size());
  const int n = int(entries.size());
  share(run, threads, (n + kListed - 1) / kListed, [&](int i) {
    const int at = i * kListed;
    score_entries<Form>(call, s, entries.data() + at, std::min(kListed, n - at), scores.data() + at);
  });
  best.clear();
  for (int i = 0; i < n; ++i) best.push_back({scores[i], entries[i]});
  keep_best(best, call.k);
}

// `octavo_select`, see there.
template <class Form>
void select(Run run, int threads, const Call& call, int64_t first, int64_t block, int best, const Place* coarse,
            int coarse_count, int64_t ratio, int64_t* picks) {
  Bests found;
  if (best) {
    const int size = int(block / ratio);
    std::vector<int64_t> known(call.S);
    const int64_t border = std::max<int64_t>(block, kBorder);
    for (int s = 0; s < call.S; ++s)
      known[s] = std::min((first + s + 1) / border * (border / block), call.seen[s] / size);
    Anew anew;
    coarse = anew.of(coarse, coarse_count, known[call.S - 1], call.J);
    std::vector<std::vector<int32_t>> blocks;
    best_folded<Form>(run, threads, call, coarse, coarse_count, known.data(), best, blocks);
    found.resize(call.S);
    for (int s = 0; s < call.S; ++s) {
      std::vector<int32_t> entries;
      for (const int32_t one : blocks[s])
        for (int e = 0; e < size; ++e) entries.push_back(one * size + e);
      for (int64_t e = known[s] * size; e < call.seen[s]; ++e) entries.push_back(int32_t(e));
      best_listed<Form>(run, threads, call, s, entries, found[s]);
    }
  } else {
    best_of<Form>(run, threads, call, found);
  }
  for (int s = 0; s < call.S; ++s) {
    int64_t* to = picks + size_t(s) * call.k;
    std::fill(to, to + call.k, -1);
    for (size_t e = 0; e < found[s].size(); ++e) to[e] = found[s][e].entry;
  }
}

#endif

}  // namespace

extern "C" {

// 2: AVX-512 with VNNI, 1: AVX2, 0: neither.
int octavo_scan_level() {
#ifdef OCTAVO_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

// q [S, I, J], w [S, I], seen [S] ascending: query s sees the entries below seen[s] of the places, which have bytes of
// this level. Picks [S, k] ascend and are filled with -1 by the caller.
void octavo_scan(int level, const float* q, const float* w, const int64_t* seen, int S, int I, int J, int k,
                 const void* places, int count, int64_t* picks) {
#ifdef OCTAVO_X86
  const Call call{q, w, static_cast<const Place*>(places), seen, count, S, I, J, k};
  if (level == 2) read<Vnni>(call, picks);
  if (level == 1) read<Avx2>(call, picks);
#endif
}

// The keys lo .. hi - 1 of keys [C, J] as bytes for this level: bytes [C up to a multiple of 16, J], the rest [C].
void octavo_pack(int level, const float* keys, int64_t lo, int64_t hi, int J, uint8_t* bytes, float* scale, float* norm,
                 float* error) {
#ifdef OCTAVO_X86
  const Packed to{bytes, scale, norm, error};
  if (level == 2) pack<Vnni>(keys, lo, hi, J, to);
  if (level == 1) pack<Avx2>(keys, lo, hi, J, to);
#endif
}

// As octavo_scan with every key of one place, which needs no bytes, scored in FP32; scores [S, k] as well.
void octavo_part(int level, const float* q, const float* w, const int64_t* seen, int S, int I, int J, int k,
                 const void* place, float* scores, int64_t* picks) {
#ifdef OCTAVO_X86
  const Call call{q, w, static_cast<const Place*>(place), seen, 1, S, I, J, k};
  Bests bests;
  if (level == 2) read_all<Vnni>(call, call.places->base, call.places->stop, bests);
  if (level == 1) read_all<Avx2>(call, call.places->base, call.places->stop, bests);
  for (size_t s = 0; s < bests.size(); ++s)
    for (size_t e = 0; e < bests[s].size(); ++e) {
      scores[s * k + e] = bests[s][e].score;
      picks[s * k + e] = bests[s][e].entry;
    }
#endif
}

// As octavo_pack in four bits: bytes [C up to a multiple of 16, J / 2], scale [C].
void octavo_sketch(const float* keys, int64_t lo, int64_t hi, int J, uint8_t* bytes, float* scale) {
#ifdef OCTAVO_X86
  sketch(keys, lo, hi, J, bytes, scale);
#endif
}

// The `most` best coarse keys of each query by its folded heads: blocks [S, most], ascending, filled with -1 by the
// caller. Query s sees those below known[s], which ascend, of coarse places, which hold them in four bits.
void octavo_folded(int level, const float* q, const float* w, const int64_t* known, int S, int I, int J, int most,
                   const void* coarse_places, int count, int64_t* blocks) {
#ifdef OCTAVO_X86
  const Call call{q, w, static_cast<const Place*>(coarse_places), known, count, S, I, J, most};
  if (level == 2) read_folded<Vnni>(call, blocks);
  if (level == 1) read_folded<Avx2>(call, blocks);
#endif
}

// As octavo_scan, among the entries of blocks [S, most] alone: block b holds b * size .. b * size + size - 1, -1 none.
void octavo_listed(int level, const float* q, const float* w, const int64_t* seen, int S, int I, int J, int k,
                   const void* places, int count, const int64_t* blocks, int most, int size, int64_t* picks) {
#ifdef OCTAVO_X86
  const Call call{q, w, static_cast<const Place*>(places), seen, count, S, I, J, k};
  if (level == 2) listed<Vnni>(call, blocks, most, size, picks);
  if (level == 1) listed<Avx2>(call, blocks, most, size, picks);
#endif
}

// The picks of a handful of queries, which are the tokens first, first + 1, ..: the k best, ascending, of the entries
// that each sees, (token + 1) / ratio and at most `length` of them. With `best` > 0 only entries of blocks of `block`
// tokens are looked at: those of the `best` best blocks by the folded heads, and what lies behind the last border.
// Places hold all entries, coarse places a key in four bits for every block before a border that is complete; picks
// [S, k] are -1 where fewer are visible.
void octavo_select(void* run, int threads, int level, const float* q, const float* w, int S, int I, int J,
                   int64_t first, int64_t ratio, int64_t length, int k, const void* places, int count, int64_t block,
                   int best, const void* coarse_places, int coarse_count, int64_t* picks) {
#ifdef OCTAVO_X86
  const Place *fine = static_cast<const Place*>(places), *coarse = static_cast<const Place*>(coarse_places);
  const Run on = reinterpret_cast<Run>(run);
  std::vector<int64_t> seen(S);
  for (int s = 0; s < S; ++s) seen[s] = std::min((first + s + 1) / ratio, length);
  const Call call{q, w, fine, seen.data(), count, S, I, J, k};
  if (level == 2) select<Vnni>(on, threads, call, first, block, best, coarse, coarse_count, ratio, picks);
  if (level == 1) select<Avx2>(on, threads, call, first, block, best, coarse, coarse_count, ratio, picks);
#endif
}

// As octavo_select, and its time is counted: two looks at the clock, some 50 ns.
void octavo_select_timed(void* run, int threads, int level, const float* q, const float* w, int S, int I, int J,
                         int64_t first, int64_t ratio, int64_t length, int k, const void* places, int count,
                         int64_t block, int best, const void* coarse_places, int coarse_count, int64_t* picks) {
  const auto begun = std::chrono::steady_clock::now();
  octavo_select(run, threads, level, q, w, S, I, J, first, ratio, length, k, places, count, block, best, coarse_places,
                coarse_count, picks);
  spent += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begun).count();
}

int64_t octavo_select_nanoseconds() { return spent; }

}  // extern "C"
