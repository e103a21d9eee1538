/* A handler of SIGALRM writes to a block that the program has protected, and one of SIGSEGV opens it again, while blocks come and
   go: the alarm may interrupt the allocator at any instruction. Prints how many alarms there were, and how many faults. */
#include "check.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

static char *own;
static volatile long alarms, faults;

static void open_again(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    faults++;
    mprotect((void *)((uintptr_t)info->si_addr & ~4095UL), 4096, PROT_READ | PROT_WRITE);
}

static void write_to_own(int sig)
{
    (void)sig;
    alarms++;
    mprotect(own, 4096, PROT_READ);
    *(volatile char *)own = 1;
}

int main(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = open_again;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    action.sa_handler = write_to_own;
    action.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    free(malloc(3000));
    free(malloc(2000));
    CHECK((own = aligned_alloc(4096, 4096)) != NULL);
    struct itimerval timer = {{0, 300}, {0, 300}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    for (long i = 0; i < 400000 && alarms < 1000; i++) {
        char *blocks[12];
        for (int k = 0; k < 12; k++)
            blocks[k] = malloc(700 + k * 100);
        for (int k = 0; k < 12; k++)
            free(blocks[k]);
    }
    memset(&timer, 0, sizeof timer);
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    printf("%ld %ld\n", alarms, faults);
    return 0;
}
