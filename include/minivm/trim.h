/* SPDX-License-Identifier: Apache-2.0 */
/* What a start needed and the running machine does not, given back to the host. */
#ifndef MINIVM_TRIM_H
#define MINIVM_TRIM_H

/*
 * Unmaps the pages of our own program; what is still used comes back from the page cache when it is
 * touched. Cannot fail: if it does nothing, we are only larger. A debugger's breakpoints, which are
 * written into these pages, are lost.
 */
void trim_program(void);

#endif
