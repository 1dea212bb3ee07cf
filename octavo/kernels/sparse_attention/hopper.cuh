// What Hopper GPUs (sm_90a) have beyond CUDA's language: barriers in shared memory, matrix products of a warpgroup.

#pragma once

#include <stdint.h>

namespace octavo {

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

// The warpgroup of `scores` waits for those of `values`, which do not wait.
__device__ __forceinline__ void await_values() { asm volatile("bar.sync 2, 384;" ::: "memory"); }
__device__ __forceinline__ void tell_scores() { asm volatile("bar.arrive 2, 384;" ::: "memory"); }

__device__ __forceinline__ void values_together() { asm volatile("bar.sync 3, 256;" ::: "memory"); }

// All threads of a cluster; what they wrote to shared memory before can be read by all behind it.
__device__ __forceinline__ void cluster_together() {
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// An address in this block's shared memory -> that of the same place in another block's of the cluster.
__device__ __forceinline__ uint32_t of_block(uint32_t at, int rank) {
    uint32_t there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    return there;
}

__device__ __forceinline__ uint4 read_far(uint32_t at) {
    uint4 x;
    asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(at));
    return x;
}

__device__ __forceinline__ float read_far_float(uint32_t at) {
    float x;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(at));
    return x;
}

__device__ __forceinline__ void fetch_line(const void* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

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

}  // namespace octavo
