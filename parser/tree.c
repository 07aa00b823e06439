#include <pthread.h>
#include <stddef.h>

#include "_cgo_export.h"

static void *serve(void *unused)
{
	(void)unused;
	wtcacheServeDeep();
	return NULL;
}

/* Starts the thread that runs wtcacheServeDeep. Returns 0, or an errno. */
int wtcache_serve_deep(size_t stack_bytes)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err = pthread_attr_init(&attr);

	if (err != 0)
		return err;
	err = pthread_attr_setstacksize(&attr, stack_bytes);
	if (err == 0)
		err = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (err == 0)
		err = pthread_create(&thread, &attr, serve, NULL);
	pthread_attr_destroy(&attr);
	return err;
}
