/* The part of CUDA's runtime and of its driver that ONNX Runtime calls until it has decided which
 * node runs where. The device is the host's memory, and kernels do nothing: what is computed with
 * it is meaningless, so a session is thrown away once it has been placed.
 *
 * Built and preloaded by placement.py where there is no GPU.
 */
#include <stdlib.h>
#include <string.h>

#define SUCCEEDS(name) int name(void) { return 0; }
#define MAKES_HANDLE(name) int name(void **handle) { return (*handle = malloc(16)) ? 0 : 2; }

SUCCEEDS(cuTensorMapEncodeTiled)
SUCCEEDS(cudaSetDevice)
SUCCEEDS(cudaDeviceSynchronize)
SUCCEEDS(cudaGetLastError)
SUCCEEDS(cudaPeekAtLastError)
SUCCEEDS(cudaStreamDestroy)
SUCCEEDS(cudaStreamSynchronize)
SUCCEEDS(cudaStreamWaitEvent)
SUCCEEDS(cudaEventDestroy)
SUCCEEDS(cudaEventRecord)
SUCCEEDS(cudaEventSynchronize)
SUCCEEDS(cudaLaunchKernel)
SUCCEEDS(cublasSetStream_v2)
SUCCEEDS(cublasSetMathMode)
SUCCEEDS(cublasSetWorkspace_v2)
SUCCEEDS(cublasDestroy_v2)
SUCCEEDS(cublasLtDestroy)

MAKES_HANDLE(cudaStreamCreate)
MAKES_HANDLE(cudaStreamCreateWithFlags)
MAKES_HANDLE(cudaEventCreate)
MAKES_HANDLE(cudaEventCreateWithFlags)
MAKES_HANDLE(cublasCreate_v2)
MAKES_HANDLE(cublasLtCreate)

int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaDeviceGetAttribute(int *value) { *value = 1; return 0; }
int cudaStreamIsCapturing(void *stream, int *is) { *is = 0; return 0; }
int cudaGetDeviceProperties(void *properties) { memset(properties, 0, 900); return 0; }
int cudaMemGetInfo(size_t *free_, size_t *all) { *free_ = *all = (size_t)8 << 30; return 0; }

static int allocate(void **memory, size_t size) {
    *memory = aligned_alloc(256, (size + 256) / 256 * 256);
    return *memory ? 0 : 2;
}

int cudaMalloc(void **memory, size_t size) { return allocate(memory, size); }
int cudaMallocHost(void **memory, size_t size) { return allocate(memory, size); }
int cudaHostAlloc(void **memory, size_t size) { return allocate(memory, size); }
int cudaFree(void *memory) { free(memory); return 0; }
int cudaFreeHost(void *memory) { free(memory); return 0; }
int cudaMemcpy(void *to, const void *from, size_t size) { memcpy(to, from, size); return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t size) { memcpy(to, from, size); return 0; }
int cudaMemset(void *to, int value, size_t size) { memset(to, value, size); return 0; }
int cudaMemsetAsync(void *to, int value, size_t size) { memset(to, value, size); return 0; }
