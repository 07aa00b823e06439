CREATE TABLE example_articles (
    id        bigserial PRIMARY KEY,
    title     text NOT NULL,
    published timestamptz
);
