// The clock of one process, moved: preloaded, it adds to the time of day what the file named by WTCACHE_TEST_CLOCK holds, a
// number of nanoseconds in 8 bytes of this machine's order. The file may change at any time. The monotonic clock stays as it
// is. It allocates nothing and looks nothing up, since allocators ask for the time before they are ready.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *moved;

__attribute__((constructor)) static void open_clock(void) {
	const char *path = getenv("WTCACHE_TEST_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) _exit(97); // a clock that cannot be moved would show nothing
	moved = at;
	close(fd);
}

int clock_gettime(clockid_t which, struct timespec *t) {
	int failed = (int)syscall(SYS_clock_gettime, which, t);
	if (failed || !moved || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE)) return failed;
	int64_t all = t->tv_sec * INT64_C(1000000000) + t->tv_nsec + *moved;
	t->tv_sec = all / 1000000000;
	t->tv_nsec = all % 1000000000;
	return 0;
}

int gettimeofday(struct timeval *t, void *zone) {
	(void)zone;
	struct timespec s;
	if (clock_gettime(CLOCK_REALTIME, &s)) return -1;
	t->tv_sec = s.tv_sec;
	t->tv_usec = s.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *t) {
	struct timespec s;
	if (clock_gettime(CLOCK_REALTIME, &s)) return -1;
	if (t) *t = s.tv_sec;
	return s.tv_sec;
}
