/* Lets the n-th call that changes a file below a folder fail: preloaded into a process, which arms it.
 *
 * kinds: 0 fails with `error`; 1 a write takes only half (other calls fail with `error`); 2 every call from the n-th on
 * fails, until it is armed anew. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long calls, failing;
static int kind, code;

void fault_arm(const char *path, long n, int how, int error) {
    strncpy(folder, path, sizeof folder - 1);
    kind = how;
    code = error;
    failing = n;
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
}

long fault_calls(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }

static int is_ours(const char *path) { return folder[0] && !strncmp(path, folder, strlen(folder)); }

static int is_ours_fd(int fd) {
    char link[64], path[4096];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0)
        return 0;
    path[length] = 0;
    return is_ours(path);
}

static int fails(void) {
    long now = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    int due = kind == 2 ? failing && now >= failing : now == failing;
    if (due)
        errno = code;
    return due;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

#define WRITE(name)                                                                                                    \
    ssize_t name(int fd, const void *bytes, size_t length, off_t at) {                                                 \
        if (is_ours_fd(fd) && fails()) {                                                                               \
            if (kind != 1)                                                                                             \
                return -1;                                                                                             \
            length = length / 2;                                                                                       \
        }                                                                                                              \
        return REAL(ssize_t, name, int, const void *, size_t, off_t)(fd, bytes, length, at);                           \
    }
WRITE(pwrite)
WRITE(pwrite64)

ssize_t write(int fd, const void *bytes, size_t length) {
    if (fd > 2 && is_ours_fd(fd) && fails()) {
        if (kind != 1)
            return -1;
        length = length / 2;
    }
    return REAL(ssize_t, write, int, const void *, size_t)(fd, bytes, length);
}

#define ON_FD(name)                                                                                                    \
    int name(int fd) { return is_ours_fd(fd) && fails() ? -1 : REAL(int, name, int)(fd); }
ON_FD(fsync)
ON_FD(fdatasync)

#define TRUNCATE(name)                                                                                                 \
    int name(int fd, off_t length) {                                                                                   \
        return is_ours_fd(fd) && fails() ? -1 : REAL(int, name, int, off_t)(fd, length);                               \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int rename(const char *from, const char *to) {
    return is_ours(to) && fails() ? -1 : REAL(int, rename, const char *, const char *)(from, to);
}

int unlink(const char *path) {
    return is_ours(path) && fails() ? -1 : REAL(int, unlink, const char *)(path);
}
