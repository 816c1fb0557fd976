/*
 * A wall clock that a test moves under an unmodified program: preloaded, it adds the milliseconds in the file that
 * TEST_CLOCK names to the system's time of day. Monotonic time is left alone, as are timers.
 *
 * Not libfaketime: that reads its file into one buffer for all threads without a lock, so a thread that asks while another
 * reads is told the system's own time, once in some hundred times (0.9.10, four threads). A test of time cannot live with that.
 *
 * The file holds the number twice, as int64 of this machine. The writer writes the second before the first, and a reader who
 * finds two different numbers looks again, so nobody sees half of a change.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_CLOCK");
    if (path == NULL) return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) abort();
    void *page = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page == MAP_FAILED) abort();
    ahead = page;
}

static int64_t milliseconds(void) {
    if (ahead == NULL) return 0;
    for (;;) {
        int64_t one = __atomic_load_n(&ahead[0], __ATOMIC_ACQUIRE);
        int64_t two = __atomic_load_n(&ahead[1], __ATOMIC_ACQUIRE);
        if (one == two) return one;
    }
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    long failed = syscall(SYS_clock_gettime, clock, time);
    if (failed == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t more = milliseconds();
        int64_t nanoseconds = time->tv_nsec + more % 1000 * 1000000;
        time->tv_sec += more / 1000;
        if (nanoseconds < 0) { nanoseconds += 1000000000; time->tv_sec -= 1; }
        if (nanoseconds >= 1000000000) { nanoseconds -= 1000000000; time->tv_sec += 1; }
        time->tv_nsec = nanoseconds;
    }
    return (int)failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    if (failed == 0) {
        time->tv_sec = now.tv_sec;
        time->tv_usec = now.tv_nsec / 1000;
    }
    return failed;
}

time_t time(time_t *where) {
    struct timespec now;
    time_t seconds = clock_gettime(CLOCK_REALTIME, &now) == 0 ? now.tv_sec : (time_t)-1;
    if (where != NULL) *where = seconds;
    return seconds;
}
