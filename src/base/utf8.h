/*
 * utf8.h
 *	  Texts of the database in UTF-8, which is what the outside speaks.
 */
#ifndef EVSTORE_UTF8_H
#define EVSTORE_UTF8_H

/*
 * length bytes in the encoding of the database as UTF-8 with a zero byte at the end:
 * the same if nothing has to be done, else in the current memory context.  NULL if a
 * character has none in UTF-8, or the bytes of a database with SQL_ASCII are none:
 * the caller knows whether it may tell what they are.
 */
extern const char *evs_utf8_from(const char *text, int length);

/*
 * The way back: bytes that should be UTF-8, with a zero byte at the end, in the encoding
 * of the database.  NULL if they are none, have a zero byte among them, or a character
 * that the database cannot have.
 */
extern const char *evs_utf8_to(const char *utf8, int length);

/* evs_utf8_from() for a text that ends with a zero byte. */
extern const char *evs_utf8(const char *text);

/* Does a text in UTF-8 have control characters: U+0000 to U+001F, U+007F to U+009F? */
extern bool evs_utf8_has_control(const char *text);

#endif							/* EVSTORE_UTF8_H */
