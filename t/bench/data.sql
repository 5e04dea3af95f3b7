-- The data of the bench: projects with keys, users and templates, and a
-- function that makes traces.  The number in a trace's id tells its size and
-- its place, so that a load can name traces without asking for them:
-- 10000000000000 + size * 1000000 + place.  Its project is place modulo 20,
-- a project's keys are those with the same remainder.

create function bench_id(kind text, n bigint) returns uuid
    language sql immutable strict
    return (kind || '00000000000400080' || (10000000000000 + n))::uuid;

insert into project (id, name)
    select bench_id('d', n), 'project ' || n from generate_series(0, 19) n;

insert into api_key (type, api_key, project_id)
    select 'private', bench_id('c', n), bench_id('d', n % 20)
    from generate_series(0, 999) n;

insert into external_user (project_id, external_id, last_seen, props)
    select bench_id('d', n % 20), 'user-' || n, now(),
        jsonb_build_object('name', 'Ada ' || n, 'email',
                           'ada' || n || '@example.com', 'plan', 'team')
    from generate_series(0, 1999) n;

insert into template (slug, name, project_id)
    select 'answer-' || n, 'Answer ' || n, bench_id('d', n % 20)
    from generate_series(0, 199) n;

insert into template_version (template_id, version)
    select t.id, v from template t cross join generate_series(1, 3) v
    order by t.id, v;


-- what people and models say, a few hundred characters each

create table bench_text as
    select n, string_agg(word, ' ' order by i) as text
    from (
        select n, i, (array['the', 'model', 'answers', 'a', 'question',
            'about', 'invoices', 'in', 'two', 'sentences,', 'and', 'names',
            E'sources:\n-', '"terms', 'of', 'service"', 'customer', 'order',
            'Zürich', 'delivery', 'was', 'late.', E'\n\nPlease', 'refund',
            'status', 'policy', 'which', 'document', 'says', 'that', 'tool',
            'returns', '42', 'results', 'for', 'this', 'search', 'then'])
            [1 + abs(hashint8(n * 1000 + i)) % 38] as word
        from generate_series(0, 499) n cross join generate_series(1, 62) i
    ) w group by n;
create unique index on bench_text (n);


-- A run has up to four children.  One in three is an LLM call, one in five
-- has a user, one in ten a template; no chats and no threads.

create function bench_fill(size integer, traces integer) returns void
    language sql as $$
    insert into run (id, parent_run_id, created_at, ended_at, project_id,
                     type, name, status, input, output, params, tags,
                     metadata, prompt_tokens, completion_tokens, cost,
                     external_user_id, template_version_id)
    select
        case i when 0 then bench_id('b', trace)
            else md5(trace || ':' || i)::uuid end,
        case when i = 0 then null
            when i < 5 then bench_id('b', trace)
            else md5(trace || ':' || (i - 1) / 4)::uuid end,
        timestamptz '2026-01-01 00:00Z' + interval '1 second' * place
            + interval '7 milliseconds' * i,
        timestamptz '2026-01-01 00:00:02Z' + interval '1 second' * place
            + interval '11 milliseconds' * i,
        bench_id('d', place % 20),
        case when i = 0 then 'agent' when i % 3 = 0 then 'llm'
            when i % 3 = 1 then 'tool' else 'chain' end,
        case when i % 3 = 0 then 'gpt-4o' else 'search-documents' end,
        'success',
        jsonb_build_array(
            jsonb_build_object('role', 'system', 'content',
                               'You are a helpful assistant.'),
            jsonb_build_object('role', 'user', 'content', a.text)),
        jsonb_build_object('role', 'assistant', 'content', b.text,
            'tool_calls', jsonb_build_array(jsonb_build_object(
                'id', 'call_' || i, 'type', 'function', 'function',
                jsonb_build_object('name', 'search', 'arguments',
                                   '{"query": "refund"}')))),
        jsonb_build_object('temperature', 0.2, 'max_tokens', 1024,
                           'top_p', 1, 'stream', true),
        array['production', 'v' || i % 7],
        jsonb_build_object('session_id', md5(trace::text), 'region', 'eu-1',
                           'retry_count', i % 2),
        case when i % 3 = 0 then 300 + i % 100 end,
        case when i % 3 = 0 then 100 + i % 50 end,
        case when i % 3 = 0 then 0.0001 * (100 + i % 50) end,
        case when i % 5 = 0 then 1 + place % 20 + 20 * (i % 100) end,
        case when i % 10 = 3 then 1 + (3 * (place % 20)) end
    from generate_series(0, traces - 1) place
        cross join lateral (select size * 1000000::bigint + place) t (trace)
        cross join generate_series(0, size - 1) i
        join bench_text a on a.n = abs(hashint8(trace * 1000 + i)) % 500
        join bench_text b on b.n = abs(hashint8(trace * 1000 + i + 7)) % 500
    order by place, i
$$;
