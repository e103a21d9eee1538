/* With -DPLUGIN a library whose constructor waits for a thread that allocates 200 MB: the dynamic loader holds its lock
 * meanwhile, so that nothing the thread calls may need it. Else the program that loads it. */
#ifdef PLUGIN
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *grow(void *unused)
{
    for (int i = 0; i < 400000; i++)
        memset(malloc(500), 1, 500);
    return unused;
}

__attribute__((constructor)) static void at_load(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, grow, NULL) == 0)
        pthread_join(thread, NULL);
}
#else
#include "check.h"

int main(int argc, char **argv)
{
    check_library();
    CHECK(argc == 2);
    CHECK(dlopen(argv[1], RTLD_NOW) != NULL);
    puts("loaded");
    return 0;
}
#endif
