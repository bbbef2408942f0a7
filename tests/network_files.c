/* Makes a program believe that its files lie on a slow network: reads and writes are late and short, and nothing can be locked.
   With JUMPING_CLOCK in the environment, the time of day jumps by days too. Built by test_faults.py and loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SHORT 8192
#define LATE_NS 200000
#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

typedef ssize_t (*read_t)(int, void *, size_t);
typedef ssize_t (*write_t)(int, const void *, size_t);
typedef ssize_t (*pread_t)(int, void *, size_t, off64_t);
typedef ssize_t (*pwrite_t)(int, const void *, size_t, off64_t);
typedef int (*clock_t_)(clockid_t, struct timespec *);

static size_t late(int descriptor, size_t count) {
    struct stat about;
    struct timespec wait = {0, LATE_NS};
    if (fstat(descriptor, &about) != 0 || !S_ISREG(about.st_mode)) return count;
    nanosleep(&wait, NULL);
    return count > SHORT ? SHORT : count;
}

ssize_t read(int descriptor, void *to, size_t count) {
    return NEXT(read_t, "read")(descriptor, to, late(descriptor, count));
}

ssize_t write(int descriptor, const void *from, size_t count) {
    return NEXT(write_t, "write")(descriptor, from, late(descriptor, count));
}

ssize_t pread64(int descriptor, void *to, size_t count, off64_t at) {
    return NEXT(pread_t, "pread64")(descriptor, to, late(descriptor, count), at);
}

ssize_t pwrite64(int descriptor, const void *from, size_t count, off64_t at) {
    return NEXT(pwrite_t, "pwrite64")(descriptor, from, late(descriptor, count), at);
}

ssize_t pread(int descriptor, void *to, size_t count, off_t at) { return pread64(descriptor, to, count, at); }

ssize_t pwrite(int descriptor, const void *from, size_t count, off_t at) { return pwrite64(descriptor, from, count, at); }

int flock(int descriptor, int operation) {
    (void)descriptor, (void)operation;
    errno = ENOLCK;
    return -1;
}

static time_t days(void) { return (rand() % 41 - 20) * 86400; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int found = NEXT(clock_t_, "clock_gettime")(clock, now);
    if (clock == CLOCK_REALTIME && getenv("JUMPING_CLOCK")) now->tv_sec += days();
    return found;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
