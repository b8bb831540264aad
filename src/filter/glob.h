/*
 * glob.h
 *	  Patterns with characters that stand for others: LIKE, and wildcards.
 */
#ifndef EVSTORE_GLOB_H
#define EVSTORE_GLOB_H

typedef struct EvsGlob EvsGlob;

/* Characters with a meaning, 0 = none. */
typedef struct EvsGlobSyntax
{
	char		any;			/* any characters, or none */
	char		one;			/* one character */
	const char *escape;			/* before a character that stands for itself;
								 * NULL = none */
	bool		escape_all;		/* before any character, and not only those
								 * two */
} EvsGlobSyntax;

extern EvsGlob *evs_glob_compile(const char *pattern, int len, const EvsGlobSyntax *syntax);

/* Does all of the text match?  In time proportional to both lengths. */
extern bool evs_glob_match(const EvsGlob *glob, const char *text, int len);

#endif							/* EVSTORE_GLOB_H */
