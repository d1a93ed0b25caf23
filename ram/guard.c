/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guard.c - turns a SIGBUS raised by touching guest memory into an error of that touch.
 * Neighbour: base/stepper.c leaves SIGBUS unblocked in every thread of the library.
 * Any thread; a signal's action belongs to the whole process, hence the file-scope state.
 */
#include "ram/guard.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

static pthread_once_t install_once = PTHREAD_ONCE_INIT;
static enum rdmamig_status install_status;
static struct sigaction previous;

/* Where this thread's guard_call() goes on. initial-exec: the lazy kind may call malloc(), and a handler must not. */
static _Thread_local sigjmp_buf *volatile way_out __attribute__((tls_model("initial-exec")));

/* Raised by an access of this thread, rather than sent by kill(2) or as advice about some page gone bad. */
static bool is_own_fault(const siginfo_t *info)
{
	return info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
}

static void pass_on(int signal_number, siginfo_t *info, void *context)
{
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal_number, info, context);
	} else if (previous.sa_handler == SIG_DFL || (previous.sa_handler == SIG_IGN && is_own_fault(info))) {
		/* A fault strikes again on return, and then kills with the right core. */
		signal(signal_number, SIG_DFL);
		if (!is_own_fault(info))
			raise(signal_number);
	} else if (previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signal_number);
	}
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	if (way_out && is_own_fault(info))
		siglongjmp(*way_out, 1);
	pass_on(signal_number, info, context);
}

static void install(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigemptyset(&action.sa_mask);

	/* Read before ours is set: ours may run at once. */
	if (sigaction(SIGBUS, NULL, &previous) || sigaction(SIGBUS, &action, NULL))
		install_status = RDMAMIG_E_FAILED;
}

enum rdmamig_status guard_install(void)
{
	pthread_once(&install_once, install);
	return install_status;
}

bool guard_call(void (*work)(void *arg), void *arg)
{
	assert(!way_out);
	sigjmp_buf here;
	if (sigsetjmp(here, 1)) {	/* with the mask: SIGBUS is blocked in the handler */
		way_out = NULL;
		return false;
	}

	way_out = &here;
	/* The fences keep @work's accesses, should it be inlined, between the two stores as on_sigbus() sees them. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	work(arg);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	way_out = NULL;
	return true;
}
