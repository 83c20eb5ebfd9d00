/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS: a page of memory that the host cannot supply. Guest memory can be a mapping of a cached
 * kernel whose file was cut short or whose disk failed, or of huge pages that the host took away.
 */
#ifndef MINIVM_BUS_ERROR_H
#define MINIVM_BUS_ERROR_H

/* What a person is told, here and when KVM_RUN fails for the same reason (EFAULT). */
#define BUS_ERROR_TEXT                                                                             \
	"the kernel cache's file was damaged, its disk failed, or there are too few huge pages; "  \
	"try --kernel-cache off, or --hugepages off"

/*
 * From now on a SIGBUS ends the process with the terminal restored, one line on standard error and
 * VM_STATUS_ERROR. Once, by main(), before term_raw(), whose handler comes first and hands over to
 * this one.
 */
void bus_error_report(void);

#endif
