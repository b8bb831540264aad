-- Where the library is preloaded, a dispatcher starts when this commits.
DO $$ BEGIN PERFORM evstore._announce(); END $$;
