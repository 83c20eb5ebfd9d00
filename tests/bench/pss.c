/* SPDX-License-Identifier: Apache-2.0 */
/* proc(5) "smaps": for each mapping a line "START-END ...", then lines "Name: N kB". */
#include "pss.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int pss_read(const struct watch *w, int verbose, struct pss *pss)
{
	char path[64], line[512], mapping[512] = "";
	bool guest = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)w->p.pid);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	*pss = (struct pss){0};
	while (fgets(line, sizeof(line), f)) {
		uint64_t start, end;
		double kib;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2) {
			guest = watch_is_guest(w, start, end);
			memcpy(mapping, line, sizeof(mapping));
		} else if (sscanf(line, "Pss: %lf kB", &kib) == 1) {
			*(guest ? &pss->guest_kib : &pss->beside_kib) += kib;
			if (verbose && !guest && kib > 0)
				fprintf(stderr, "%6.0f KiB %s", kib, mapping);
		}
	}
	fclose(f);
	return pss->guest_kib + pss->beside_kib > 0 ? 0 : -EIO;
}
