/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends that come from outside. SIGTERM, SIGINT and SIGHUP ask the guest to shut down, in both ways
 * that guests know: COM1's DSR line falls, which our guest init waits for
 * (guest-images/init/README.md), and with ACPI the power button is pressed, which systemd and acpid
 * wait for. Our init takes whichever comes first. The line stays low, so a guest that is still
 * booting finds it later; a button that nobody listens to yet was pressed in vain. When the grace
 * time is over, or with a second signal, the machine is stopped where it is.
 *
 * The signals are blocked before any thread exists and read through a signalfd, so no handler runs
 * and nothing here has to be async-signal-safe.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "machine_priv.h"
#include "minivm/clock.h"

static void stop_now(struct machine *m)
{
	machine_report_end(m, VM_END_STOPPED, 0);
}

static void grace_over(void *opaque)
{
	struct machine *m = opaque;

	log_msg(m->log, LOG_LEVEL_WARN, "the guest did not shut down within %u s; stopped",
		m->config->grace_seconds);
	stop_now(m);
}

void lifeline_ask(struct machine *m)
{
	if (m->lifeline.asked)
		return;
	m->lifeline.asked = true;
	log_msg(m->log, LOG_LEVEL_INFO, "asking the guest to shut down");
	serial_set_dsr(console_serial(m->console), false);
	irq_line_raise(&m->button);
	loop_timer_init(m->loop, &m->lifeline.grace, grace_over, m);
	if (m->config->grace_seconds == 0)
		grace_over(m);
	else
		loop_timer_arm(&m->lifeline.grace, m->config->grace_seconds * SECOND_NS);
}

static void on_signal(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct signalfd_siginfo info;

	(void)events;
	while (read(m->lifeline.source.fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			console_resized(m->console);
		else if (m->lifeline.asked)
			stop_now(m);
		else
			lifeline_ask(m);
	}
}

void lifeline_quit(void *machine)
{
	stop_now(machine);
}

int lifeline_open(struct machine *m, struct err *err)
{
	struct lifeline *l = &m->lifeline;
	sigset_t set;
	int ret;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (m->hvc) /* it can tell the guest the terminal's size */
		sigaddset(&set, SIGWINCH);
	/* Exactly these, whatever mask we were started with: vCPU threads inherit it, and their
	 * kick must get through. */
	if (sigprocmask(SIG_SETMASK, &set, NULL))
		return err_sys(err, errno, "blocking signals");
	l->source.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->source.fd < 0)
		return err_sys(err, errno, "signalfd");
	l->source.fn = on_signal;
	l->source.opaque = m;
	ret = loop_watch(m->loop, &l->source, EPOLLIN, err);
	if (ret) {
		close(l->source.fd);
		l->source.fd = -1;
	}
	return ret;
}

void lifeline_close(struct machine *m)
{
	struct lifeline *l = &m->lifeline;

	if (l->source.fd < 0)
		return;
	loop_unwatch(m->loop, &l->source);
	loop_timer_destroy(&l->grace);
	close(l->source.fd);
	l->source.fd = -1;
}
