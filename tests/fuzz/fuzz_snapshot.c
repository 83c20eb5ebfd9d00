/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A saved state: the input is what follows the header, the checksum is made to fit. What is taken
 * is used for a moment.
 */
#include <signal.h>

#include "../lib/saved_machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct saved_machine m;
	struct state_writer w;
	struct err err = {0};

	state_writer_init(&w);
	state_put_bytes(&w, data, size);
	if (state_seal(&w, &err) || saved_machine_new(&m, &err))
		abort();
	if (saved_machine_restore(&m, w.data, w.len, &err) == 0)
		saved_machine_use(&m);
	else if (err.text[0] == '\0' || strchr(err.text, '\n'))
		abort();
	saved_machine_free(&m);
	state_writer_free(&w);
	return 0;
}

/* A first input worth mutating: without it no fuzzer gets through the sections in seconds. */
static size_t sample(uint8_t *data, size_t size)
{
	struct saved_machine m;
	struct state_writer w;
	struct err err = {0};
	size_t len;

	if (saved_machine_new(&m, &err))
		abort();
	saved_machine_drive(&m);
	if (saved_machine_save(&m, &w, &err))
		abort();
	saved_machine_free(&m);
	len = w.len - STATE_HEADER_LEN;
	len = len < size ? len : size;
	memcpy(data, w.data + STATE_HEADER_LEN, len);
	state_writer_free(&w);
	return len;
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	if (size < STATE_SECTION_LEN || seed % 64 == 0)
		size = sample(data, max);
	return LLVMFuzzerMutate(data, size, max);
}
