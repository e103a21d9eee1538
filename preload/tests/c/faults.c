/* Handlers of SIGSEGV that a program has, and a guarded block. The argument says when the handler comes: "before" the first
   guarded block, or "after" it; "jump" and "jump-open" leave it by siglongjmp, the latter without a saved mask and with
   SA_NODEFER. Prints how often the program recovered from faults of its own. */
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf back;
static char *volatile own;
static volatile int jumps, recovered;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if ((char *)info->si_addr != own)
        _exit(3);
    recovered++;
    if (jumps)
        siglongjmp(back, 1);
    mprotect(own, 4096, PROT_READ | PROT_WRITE);
}

static void install(int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

static void *work(void *unused)
{
    for (int i = 0; i < 20; i++) {
        if (jumps) {
            if (sigsetjmp(back, jumps == 1) == 0)
                *own = 1;
        } else {
            mprotect(own, 4096, PROT_NONE);
            *own = 1;
        }
    }
    return unused;
}

int main(int argc, char **argv)
{
    const char *when = argc > 1 ? argv[1] : "before";
    own = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    jumps = strcmp(when, "jump") == 0 ? 1 : strcmp(when, "jump-open") == 0 ? 2 : 0;
    if (strcmp(when, "after") != 0)
        install(jumps == 2 ? SA_NODEFER : 0);
    /* The thread's first block is never guarded, nor is the process's next that finds its bin empty. Of those of a size whose
       bin is empty each is then, under HAKMEM_GUARD_EVERY=1. */
    free(malloc(3000));
    free(malloc(2000));
    char *blocks[4];
    for (int i = 0; i < 4; i++) {
        blocks[i] = malloc(720);
        memset(blocks[i], 1, 720);
    }
    if (strcmp(when, "after") == 0)
        install(0);
    work(NULL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0 && pthread_join(thread, NULL) == 0);
    printf("recovered %d\n", recovered);
    fflush(stdout);
    if (argc > 2) {
        /* One of two neighbours ends with its page. */
        for (int i = 0; i < 4; i++)
            if (((uintptr_t)blocks[i] + 720) % 4096 == 0)
                ((char *volatile *)blocks)[i][720] = 1;
    }
    for (int i = 0; i < 4; i++)
        free(blocks[i]);
    return 0;
}
