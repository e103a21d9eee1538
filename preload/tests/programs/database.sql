PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b BLOB, c REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 370000)
    INSERT INTO t SELECT i, printf('text %d %d', i, i * 7919 % 10007), zeroblob(300 + i % 300), i * 0.5 FROM n;
CREATE INDEX ta ON t (a);
CREATE INDEX tc ON t (c DESC);
SELECT count(*), sum(length(b)), max(a) FROM t WHERE a LIKE '%99%';
SELECT a, count(*) FROM t GROUP BY substr(a, 6, 2) ORDER BY 2 DESC, 1 LIMIT 20;
SELECT x.a, y.a FROM t x JOIN t y ON y.c = x.c * 2 WHERE x.id % 5000 = 0 ORDER BY 1;
SELECT page_count * page_size > 200000000 FROM pragma_page_count, pragma_page_size;
PRAGMA integrity_check;
