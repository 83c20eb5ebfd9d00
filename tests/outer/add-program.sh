#!/bin/sh
# Copies a program of this machine's and the libraries that it loads to where they are, below ROOT:
# for the outer Linux, which has no libraries. Usage: add-program.sh NAME ROOT
# A program that is not installed is left out, and the cases that want it say so.
set -eu
program=$(command -v "$1") || exit 0
for file in "$program" $(ldd "$program" | grep -o '/[^ )]*'); do
	mkdir -p "$2$(dirname "$file")"
	cp -L "$file" "$2$file"
done
