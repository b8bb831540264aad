/*
 * path_parse.c
 *	  From the text of a path to its steps.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "asl/path_node.h"
#include "compat.h"

/* Parts of a text that follow each other. */
typedef struct Steps
{
	int			n;
	EvsAslStep	steps[EVS_ASL_STEPS_MAX];
} Steps;

void *
evs_asl_parser_fail(EvsAslParser *parser, const char *problem)
{
	if (parser->problem == NULL)
		parser->problem = psprintf("%s at character %d", problem,
								   pg_mbstrlen_with_len(parser->text, parser->p - parser->text) + 1);
	return NULL;
}

static bool
fail(EvsAslParser *parser, const char *problem)
{
	(void) evs_asl_parser_fail(parser, problem);
	return false;
}

void
evs_asl_skip_space(EvsAslParser *parser)
{
	parser->p += strspn(parser->p, " \t\r\n");
}

bool
evs_asl_accept(EvsAslParser *parser, const char *token)
{
	size_t		len = strlen(token);

	if (strncmp(parser->p, token, len) != 0)
		return false;
	parser->p += len;
	return true;
}

/* ---- names ---- */

char *
evs_asl_parse_quoted(EvsAslParser *parser)
{
	StringInfoData buf;
	char		quote = *parser->p++;

	initStringInfo(&buf);
	while (*parser->p != quote)
	{
		int			len;

		if (*parser->p == '\0')
			return evs_asl_parser_fail(parser, "a string has no end");
		if (*parser->p == '\\')
		{
			parser->p++;
			if (*parser->p == '\0' || strchr("'\"\\/", *parser->p) == NULL)
				return evs_asl_parser_fail(parser, "a backslash is before none of ' \" \\ /");
		}
		len = pg_mblen(parser->p);
		appendBinaryStringInfo(&buf, parser->p, len);
		parser->p += len;
	}
	parser->p++;
	return buf.data;
}

/* Characters that are part of no name without quotes, unless a backslash is before them. */
static bool
ends_name(char c, bool in_filter)
{
	if ((unsigned char) c <= ' ' || strchr(".[](),'\"*?@", c) != NULL)
		return true;
	return in_filter && strchr("=<>!&|+/%", c) != NULL;
}

/* NULL: there is none here. */
static char *
parse_bare_name(EvsAslParser *parser, bool in_filter)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (;;)
	{
		int			len;

		if (*parser->p == '\\' && parser->p[1] != '\0')
			parser->p++;
		else if (ends_name(*parser->p, in_filter))
			break;
		len = pg_mblen(parser->p);
		appendBinaryStringInfo(&buf, parser->p, len);
		parser->p += len;
	}
	return buf.len > 0 ? buf.data : NULL;
}

static void
set_name(EvsAslStep *step, char *name)
{
	step->kind = EVS_ASL_NAME;
	step->name = name;
	step->name_len = strlen(name);
}

/* After a dot, or two. */
static bool
parse_dot_name(EvsAslParser *parser, bool in_filter, EvsAslStep *step)
{
	char	   *name;

	if (evs_asl_accept(parser, "*"))
	{
		step->kind = EVS_ASL_WILDCARD;
		return true;
	}
	name = parse_bare_name(parser, in_filter);
	if (name == NULL)
		return fail(parser, "a name is missing");
	if (*parser->p == '(')
		return fail(parser, "functions of paths are not supported");
	set_name(step, name);
	return true;
}

/* ---- what is in brackets ---- */

static bool
parse_integer(EvsAslParser *parser, int64 *value)
{
	char	   *end;

	errno = 0;
	*value = strtoi64(parser->p, &end, 10);
	if (end == parser->p || errno != 0 || *value > PG_INT32_MAX || *value < PG_INT32_MIN)
		return fail(parser, "an index is missing, or too large");
	parser->p = end;
	return true;
}

static bool
at_integer(const EvsAslParser *parser)
{
	return *parser->p == '-' || isdigit((unsigned char) *parser->p);
}

/* After the first colon. */
static bool
parse_slice(EvsAslParser *parser, EvsAslStep *step)
{
	step->kind = EVS_ASL_SLICE;
	step->step = 1;
	evs_asl_skip_space(parser);
	if (at_integer(parser))
	{
		if (!parse_integer(parser, &step->end))
			return false;
		step->has_end = true;
	}
	evs_asl_skip_space(parser);
	if (!evs_asl_accept(parser, ":"))
		return true;
	evs_asl_skip_space(parser);
	if (at_integer(parser) && !parse_integer(parser, &step->step))
		return false;
	return step->step != 0 || fail(parser, "the step of a slice is zero");
}

static bool
parse_index(EvsAslParser *parser, EvsAslStep *step)
{
	step->kind = EVS_ASL_INDEX;
	if (at_integer(parser))
	{
		if (!parse_integer(parser, &step->index))
			return false;
		step->has_start = true;
	}
	evs_asl_skip_space(parser);
	if (evs_asl_accept(parser, ":"))
		return parse_slice(parser, step);
	return step->has_start || fail(parser, "an index, a quoted name, * or ?(...) is missing");
}

static bool
parse_item(EvsAslParser *parser, EvsAslStep *step)
{
	memset(step, 0, sizeof(*step));
	if (*parser->p == '\'' || *parser->p == '"')
	{
		char	   *name = evs_asl_parse_quoted(parser);

		if (name == NULL)
			return false;
		set_name(step, name);
		return true;
	}
	if (evs_asl_accept(parser, "*"))
	{
		step->kind = EVS_ASL_WILDCARD;
		return true;
	}
	if (evs_asl_accept(parser, "?"))
	{
		step->kind = EVS_ASL_FILTER;
		step->filter = evs_asl_parse_filter(parser);
		return step->filter != NULL;
	}
	if (*parser->p == '(')
		return fail(parser, "expressions in place of an index are not supported");
	return parse_index(parser, step);
}

/* After the opening bracket, up to and with the closing one. */
static bool
parse_brackets(EvsAslParser *parser, EvsAslStep *step)
{
	EvsAslStep *items = palloc(sizeof(EvsAslStep) * EVS_ASL_STEPS_MAX);
	int			n = 0;

	do
	{
		if (n == EVS_ASL_STEPS_MAX)
			return fail(parser, "there are too many items");
		evs_asl_skip_space(parser);
		if (!parse_item(parser, &items[n++]))
			return false;
		evs_asl_skip_space(parser);
	} while (evs_asl_accept(parser, ","));
	if (!evs_asl_accept(parser, "]"))
		return fail(parser, "\"]\" is missing");
	if (n == 1)
	{
		*step = items[0];
		pfree(items);
	}
	else
	{
		step->kind = EVS_ASL_UNION;
		step->nitems = n;
		step->items = repalloc(items, sizeof(EvsAslStep) * n);
	}
	return true;
}

/* ---- paths ---- */

static EvsAslStep *
add_step(EvsAslParser *parser, Steps *steps)
{
	EvsAslStep *step = &steps->steps[steps->n];

	if (steps->n == EVS_ASL_STEPS_MAX)
		return evs_asl_parser_fail(parser, "the path has too many steps");
	steps->n++;
	memset(step, 0, sizeof(*step));
	return step;
}

/* What follows "..", and the dot of ".[": a name or brackets. */
static bool
parse_after_dot(EvsAslParser *parser, bool in_filter, Steps *steps)
{
	EvsAslStep *step = add_step(parser, steps);

	if (step == NULL)
		return false;
	if (evs_asl_accept(parser, "["))
		return parse_brackets(parser, step);
	return parse_dot_name(parser, in_filter, step);
}

static bool
parse_step(EvsAslParser *parser, bool in_filter, Steps *steps)
{
	if (evs_asl_accept(parser, ".."))
	{
		EvsAslStep *step = add_step(parser, steps);

		if (step == NULL)
			return false;
		step->kind = EVS_ASL_DESCEND;
	}
	else if (!evs_asl_accept(parser, ".") && *parser->p != '[')
		return fail(parser, "\".\" or \"[\" is missing");
	return parse_after_dot(parser, in_filter, steps);
}

static bool
is_word(char c, bool first)
{
	return c == '_' || IS_HIGHBIT_SET(c) || (first ? isalpha((unsigned char) c) : isalnum((unsigned char) c));
}

static bool
parse_root(EvsAslParser *parser, bool in_filter, EvsAslPath *path)
{
	const char *name;

	if (in_filter && evs_asl_accept(parser, "@"))
		path->root = EVS_ASL_ROOT_CURRENT;
	else if (evs_asl_accept(parser, "$$"))
		path->root = EVS_ASL_ROOT_CONTEXT;
	else if (evs_asl_accept(parser, "$"))
		path->root = EVS_ASL_ROOT_INPUT;
	else
		return fail(parser, "a path begins with $");
	name = parser->p;
	while (path->root == EVS_ASL_ROOT_INPUT && is_word(*parser->p, parser->p == name))
		parser->p++;
	if (parser->p > name)
	{
		path->root = EVS_ASL_ROOT_VARIABLE;
		path->variable = pnstrdup(name, parser->p - name);
	}
	return true;
}

static bool
is_definite(const Steps *steps)
{
	for (int i = 0; i < steps->n; i++)
		if (steps->steps[i].kind != EVS_ASL_NAME && steps->steps[i].kind != EVS_ASL_INDEX)
			return false;
	return true;
}

EvsAslPath *
evs_asl_parse_path(EvsAslParser *parser, bool in_filter)
{
	EvsAslPath *path = palloc0(sizeof(EvsAslPath));
	Steps	   *steps = palloc(sizeof(Steps));
	const char *start = parser->p;

	steps->n = 0;
	if (!parse_root(parser, in_filter, path))
		return NULL;
	while (*parser->p == '.' || *parser->p == '[')
		if (!parse_step(parser, in_filter, steps))
			return NULL;
	path->text = pnstrdup(start, parser->p - start);
	path->definite = is_definite(steps);
	path->nsteps = steps->n;
	path->steps = memcpy(palloc(sizeof(EvsAslStep) * Max(steps->n, 1)), steps->steps,
						 sizeof(EvsAslStep) * steps->n);
	pfree(steps);
	return path;
}

EvsAslPath *
evs_asl_path_compile(const char *source, char **problem)
{
	EvsAslParser parser = {.text = source, .p = source};
	EvsAslPath *path;

	if (strlen(source) > EVS_ASL_TEXT_MAX)
	{
		*problem = psprintf("a path has more than %d bytes", EVS_ASL_TEXT_MAX);
		return NULL;
	}
	path = evs_asl_parse_path(&parser, false);
	if (path != NULL && *parser.p != '\0')
		path = evs_asl_parser_fail(&parser, "the path goes on after its end");
	if (path == NULL)
		*problem = parser.problem;
	return path;
}
