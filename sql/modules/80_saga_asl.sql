-- Parts of the interpreter of the Amazon States Language, for tests, without a saga.

-- NULL: a definite path names nothing.  Error: VS010 if it is no path.
CREATE OR REPLACE FUNCTION evstore._asl_path(path text, input jsonb, context jsonb DEFAULT NULL,
	variables jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE C IMMUTABLE AS 'MODULE_PATHNAME', 'evs_asl_path';
COMMENT ON FUNCTION evstore._asl_path(text, jsonb, jsonb, jsonb) IS 'for tests: what a path names';

-- Errors: VS010 if it is no path; 22000 with the name of the language's error.
CREATE OR REPLACE FUNCTION evstore._asl_put(path text, document jsonb, value jsonb) RETURNS jsonb
LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'evs_asl_put';
COMMENT ON FUNCTION evstore._asl_put(text, jsonb, jsonb) IS 'for tests: a document with a value put where a path leads to';

-- Errors: VS010 with the first thing that is wrong with it; 22000 with the name of the language's error.
CREATE OR REPLACE FUNCTION evstore._asl_template(template jsonb, input jsonb, context jsonb DEFAULT NULL,
	variables jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_asl_template';
COMMENT ON FUNCTION evstore._asl_template(jsonb, jsonb, jsonb, jsonb) IS 'for tests: what a payload template makes';

-- Errors: as _asl_template().
CREATE OR REPLACE FUNCTION evstore._asl_choice(rule jsonb, input jsonb, context jsonb DEFAULT NULL,
	variables jsonb DEFAULT NULL) RETURNS boolean
LANGUAGE C IMMUTABLE AS 'MODULE_PATHNAME', 'evs_asl_choice';
COMMENT ON FUNCTION evstore._asl_choice(jsonb, jsonb, jsonb, jsonb) IS 'for tests: does a rule of a Choice match?';
