/*
 * glob.c
 *	  Patterns with characters that stand for others: LIKE, and wildcards.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "filter/glob.h"
#include "compat.h"

typedef enum GlobItemKind
{
	ITEM_CHARACTER,
	ITEM_ONE,
	ITEM_ANY
} GlobItemKind;

typedef struct GlobItem
{
	GlobItemKind kind;
	const char *s;				/* of a character */
	int			len;
} GlobItem;

struct EvsGlob
{
	int			n;
	GlobItem	items[FLEXIBLE_ARRAY_MEMBER];
};

/* Does an escape stand here, and before something that it can be before? */
static bool
is_escape(const char *s, const char *end, const EvsGlobSyntax *syntax)
{
	int			len = syntax->escape != NULL ? strlen(syntax->escape) : 0;

	if (len == 0 || end - s <= len || memcmp(s, syntax->escape, len) != 0)
		return false;
	return syntax->escape_all || s[len] == syntax->any ||
		(syntax->one != 0 && s[len] == syntax->one);
}

EvsGlob *
evs_glob_compile(const char *pattern, int len, const EvsGlobSyntax *syntax)
{
	EvsGlob    *glob = palloc(offsetof(EvsGlob, items) + sizeof(GlobItem) * len);
	char	   *copy = pnstrdup(pattern, len);
	const char *end = copy + len;

	glob->n = 0;
	for (const char *s = copy; s < end;)
	{
		GlobItem   *item = &glob->items[glob->n++];

		item->kind = ITEM_CHARACTER;
		if (is_escape(s, end, syntax))
			s += strlen(syntax->escape);
		else if (*s == syntax->any)
			item->kind = ITEM_ANY;
		else if (syntax->one != 0 && *s == syntax->one)
			item->kind = ITEM_ONE;
		item->s = s;
		item->len = pg_mblen(s);
		s += item->len;
	}
	return glob;
}

/*
 * Where characters do not match, the last "any" takes one more of them.  An
 * earlier one need never do so: what it was followed by has been found.
 */
bool
evs_glob_match(const EvsGlob *glob, const char *text, int len)
{
	const char *end = text +len;
	const char *again = NULL;	/* where the last "any" may go on */
	int			last_any = -1;
	int			i = 0;

	while (text <end)
	{
		const GlobItem *item = i < glob->n ? &glob->items[i] : NULL;

		if (item != NULL && item->kind == ITEM_ANY)
		{
			last_any = i++;
			again = text;
		}
		else if (item != NULL && item->kind == ITEM_ONE)
		{
			text	  +=pg_mblen(text);

			i++;
		}
		else if (item != NULL && item->len <= end - text &&memcmp(item->s, text, item->len) == 0)
		{
			text	  +=item->len;

			i++;
		}
		else if (last_any >= 0)
		{
			again += pg_mblen(again);
			text = again;

			i = last_any + 1;
		}
		else
			return false;
	}
	while (i < glob->n && glob->items[i].kind == ITEM_ANY)
		i++;
	return i == glob->n;
}
