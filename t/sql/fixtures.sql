-- Test data.  The id of a run is 00000000-0000-4000-8000- and twelve digits, of
-- which the first that is not 0 is the subject: 1 plain trees, 2 cycles, 3 other
-- projects, 4 deleted, 5 threads, 6 feedback, 7 values, 8 depth, 9 width.
-- Projects are ...a001, keys cccccccc-....

create function pg_temp.r(n integer) returns uuid immutable language sql as
$$ select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;

create function pg_temp.p(n integer) returns uuid immutable language sql as
$$ select ('00000000-0000-4000-8000-00000000a00' || n)::uuid $$;

-- seconds after a fixed moment
create function pg_temp.t(s double precision) returns timestamptz
immutable language sql as
$$ select timestamptz '2026-11-10 21:48:04.090123+00'
          + make_interval(secs => s) $$;


insert into project (id, name) values
    (pg_temp.p(1), 'alpha'),
    (pg_temp.p(2), 'beta'),
    (pg_temp.p(3), 'empty');


-- keys: ...0001 alpha, 0002 beta, 0003 empty, 0011 public, 0012 org,
-- 0021 and up: one value in several rows, where the lowest id decides

insert into api_key (id, type, api_key, project_id) values
    (1, 'private', 'cccccccc-0000-4000-8000-000000000001', pg_temp.p(1)),
    (2, 'private', 'cccccccc-0000-4000-8000-000000000002', pg_temp.p(2)),
    (3, 'private', 'cccccccc-0000-4000-8000-000000000003', pg_temp.p(3)),
    (4, 'private', 'cccccccc-abcd-4fff-8000-00000000abcd', pg_temp.p(1)),
    (5, 'public', 'cccccccc-0000-4000-8000-000000000011', pg_temp.p(1)),
    (6, 'org_private', 'cccccccc-0000-4000-8000-000000000012', null),
    -- a row with a higher id, before it in the table
    (27, 'private', 'cccccccc-0000-4000-8000-000000000021', pg_temp.p(1)),
    (20, 'private', 'cccccccc-0000-4000-8000-000000000021', pg_temp.p(2)),
    (28, 'private', 'cccccccc-0000-4000-8000-000000000022', pg_temp.p(1)),
    (21, 'public', 'cccccccc-0000-4000-8000-000000000022', pg_temp.p(1)),
    (29, 'private', 'cccccccc-0000-4000-8000-000000000023', pg_temp.p(1)),
    (22, 'org_private', 'cccccccc-0000-4000-8000-000000000023', null),
    (23, 'private', 'cccccccc-0000-4000-8000-000000000024', pg_temp.p(1)),
    (30, 'public', 'cccccccc-0000-4000-8000-000000000024', pg_temp.p(2));
alter sequence api_key_id_seq restart 1000;


-- accounts: ...b001 to b008 of each role and b009 of none, in alpha; b010 in
-- beta, b011 in no project

create function pg_temp.a(n integer) returns uuid immutable language sql as
$$ select ('00000000-0000-4000-8000-00000000b' || lpad(n::text, 3, '0'))::uuid
$$;

insert into account (id, email, password_hash, role)
select pg_temp.a(n::integer), n || '@example.com', 'a hash', role
    from unnest(enum_range(null::user_role) || array[null, 'owner', 'owner']
                    ::user_role[]) with ordinality as account (role, n);

insert into account_project (account_id, project_id)
select pg_temp.a(n), pg_temp.p(1) from generate_series(1, 9) n
union all values (pg_temp.a(10), pg_temp.p(2));


insert into external_user
    (id, project_id, external_id, created_at, last_seen, props) values
    (1, pg_temp.p(1), 'ada', '2025-01-02 03:04:05.678901+00',
        '2026-11-10 21:00:00+00',
        '{"name": "Ada", "e_mail": {"work_address": "ada@example.com"}}'),
    (2, pg_temp.p(1), null, '2025-01-02 03:04:05+00', null, null),
    (3, pg_temp.p(2), 'bert', '2025-01-02 03:04:05+00',
        '2026-11-10 21:00:00+00', '{"secret_of": "beta"}'),
    (4, pg_temp.p(1), E'quote" back\\ tab\t', 'infinity', '-infinity',
        'null'),
    (5, pg_temp.p(1), '', '0044-03-15 12:00:00+00 BC',
        '12026-01-01 00:00:00+00', '[]'),
    (2147483647, pg_temp.p(1), 'last', '2025-01-02 03:04:05+00', null,
        '"only a string"');
alter sequence external_user_id_seq restart 1000;


insert into template (id, project_id, slug) values
    (1, pg_temp.p(1), 'greeting'),
    (2, pg_temp.p(1), null),
    (3, pg_temp.p(2), 'secret-of-beta'),
    (4, pg_temp.p(1), E'odd "slug" \\ \u00e9\u4e2d\U0001f600');
alter sequence template_id_seq restart 1000;

insert into template_version (id, template_id, version) values
    (11, 1, 1), (12, 1, 2), (21, 2, 1), (31, 3, 1), (41, 4, 1);
alter sequence template_version_id_seq restart 1000;


-- 1: plain trees

insert into run (id, parent_run_id, project_id, type, name, created_at,
    ended_at, status, tags, prompt_tokens, completion_tokens, cost,
    external_user_id, template_version_id, is_public, input, output, params,
    metadata, feedback, error)
values
    (pg_temp.r(101), null, pg_temp.p(1), 'agent', 'support agent',
     pg_temp.t(0), pg_temp.t(12.345678), 'success', '{prod,eu-west}',
     null, null, null, 1, null, true,
     '{"question": "Where is my parcel?"}',
     '{"answer": "It left yesterday.", "sources": [1, 2.50, 3e2]}',
     null, '{"session_id": "s-1", "app": {"build_no": 17}}',
     '{"thumb": "up", "comment": "quick"}', null),
    (pg_temp.r(102), pg_temp.r(101), pg_temp.p(1), 'chain', 'plan',
     pg_temp.t(0.5), pg_temp.t(3), 'success', '{}', null, null, null, 1,
     null, false, '[]', '{}', '{}', null, null, null),
    (pg_temp.r(103), pg_temp.r(102), pg_temp.p(1), 'llm', 'gpt-4o',
     pg_temp.t(0.75), pg_temp.t(2.75), 'success', '{prod}', 120, 34,
     0.001234, 1, 12, false,
     '[{"role": "system", "content": "You help."},
       {"role": "user", "content": "Where is my parcel?",
        "tool_calls": [{"function_name": "track", "call_id": "c1"}]}]',
     '{"role": "assistant", "content": null, "finish_reason": "tool_calls"}',
     '{"model": "gpt-4o", "max_tokens": 256, "temperature": 0.20,
       "response_format": {"json_schema": {"strict_mode": true}}}',
     null, null, null),
    (pg_temp.r(104), pg_temp.r(101), pg_temp.p(1), 'tool', 'track_parcel',
     pg_temp.t(4), pg_temp.t(4.000001), 'error', null, null, null, 0, 1,
     null, false, '"P-1"', null, null, null, null,
     '{"message": "timeout", "stack_trace": "at line 1\nat line 2"}'),
    (pg_temp.r(105), pg_temp.r(101), pg_temp.p(1), 'embed', null,
     pg_temp.t(5), pg_temp.t(4), null, null, 7, null, 1e-7, 2, 21, false,
     'true', 'false', '0', '"x"', null, null),
    (pg_temp.r(106), pg_temp.r(101), pg_temp.p(1), 'llm', '',
     pg_temp.t(6), null, '', '{""}', null, 9, 3, null, 11, false,
     null, null, null, null, null, null);

-- only required columns
insert into run (id, project_id, type, created_at) values
    (pg_temp.r(110), pg_temp.p(1), 'llm', pg_temp.t(0)),
    (pg_temp.r(111), pg_temp.p(2), 'llm', pg_temp.t(0)),
    ('0000abcd-ef00-4000-8000-000000000112', pg_temp.p(1), 'llm',
     pg_temp.t(0));

-- order: equal times, a child older than its parent, microseconds apart
insert into run (id, parent_run_id, project_id, type, created_at) values
    (pg_temp.r(120), null, pg_temp.p(1), 'agent', pg_temp.t(10)),
    (pg_temp.r(125), pg_temp.r(120), pg_temp.p(1), 'llm', pg_temp.t(10)),
    (pg_temp.r(124), pg_temp.r(120), pg_temp.p(1), 'llm', pg_temp.t(10)),
    (pg_temp.r(123), pg_temp.r(125), pg_temp.p(1), 'llm', pg_temp.t(1)),
    (pg_temp.r(122), pg_temp.r(120), pg_temp.p(1), 'llm',
     pg_temp.t(10) + interval '1 microsecond'),
    (pg_temp.r(121), pg_temp.r(120), pg_temp.p(1), 'llm',
     pg_temp.t(10) + interval '2 microseconds'),
    (pg_temp.r(127), pg_temp.r(120), pg_temp.p(1), 'llm', 'infinity'),
    (pg_temp.r(126), pg_temp.r(120), pg_temp.p(1), 'llm', '-infinity');


-- 2: cycles

insert into run (id, parent_run_id, project_id, type, created_at, feedback)
values
    -- a run that is its own parent
    (pg_temp.r(200), pg_temp.r(200), pg_temp.p(1), 'chat', pg_temp.t(0),
     '{"thumb": "down"}'),
    (pg_temp.r(201), pg_temp.r(200), pg_temp.p(1), 'llm', pg_temp.t(1), null),
    -- two runs that are each other's parent
    (pg_temp.r(210), null, pg_temp.p(1), 'chat', pg_temp.t(0),
     '{"thumb": "up"}'),
    (pg_temp.r(211), pg_temp.r(210), pg_temp.p(1), 'agent', pg_temp.t(1),
     null),
    -- a cycle of three, with a branch
    (pg_temp.r(220), null, pg_temp.p(1), 'agent', pg_temp.t(0), null),
    (pg_temp.r(221), pg_temp.r(220), pg_temp.p(1), 'chat', pg_temp.t(1),
     '{"comment": "ring"}'),
    (pg_temp.r(222), pg_temp.r(221), pg_temp.p(1), 'agent', pg_temp.t(2),
     null),
    (pg_temp.r(223), pg_temp.r(221), pg_temp.p(1), 'agent', pg_temp.t(3),
     null),
    (pg_temp.r(224), pg_temp.r(223), pg_temp.p(1), 'llm', pg_temp.t(4), null),
    -- a cycle with a deleted run, and one with a run of beta
    (pg_temp.r(230), null, pg_temp.p(1), 'agent', pg_temp.t(0), null),
    (pg_temp.r(231), pg_temp.r(230), pg_temp.p(1), 'agent', pg_temp.t(1),
     null),
    (pg_temp.r(232), pg_temp.r(231), pg_temp.p(1), 'agent', pg_temp.t(2),
     null),
    (pg_temp.r(240), null, pg_temp.p(1), 'agent', pg_temp.t(0), null),
    (pg_temp.r(241), pg_temp.r(240), pg_temp.p(2), 'chat', pg_temp.t(1),
     '{"comment": "beta"}'),
    (pg_temp.r(242), pg_temp.r(240), pg_temp.p(1), 'agent', pg_temp.t(2),
     null);
update run set parent_run_id = pg_temp.r(211) where id = pg_temp.r(210);
update run set parent_run_id = pg_temp.r(222) where id = pg_temp.r(220);
update run set parent_run_id = pg_temp.r(232) where id = pg_temp.r(230);
update run set parent_run_id = pg_temp.r(241) where id = pg_temp.r(240);
update run set is_deleted = true where id = pg_temp.r(231);


-- 3: other projects

insert into run (id, parent_run_id, project_id, type, created_at, feedback,
    external_user_id, template_version_id, input)
values
    (pg_temp.r(300), null, pg_temp.p(1), 'agent', pg_temp.t(0), null, 3, 31,
     null),
    -- a run of beta below one of alpha, and one of alpha below that
    (pg_temp.r(301), pg_temp.r(300), pg_temp.p(2), 'chat', pg_temp.t(1),
     '{"comment": "beta"}', 3, 31, '"secret of beta"'),
    (pg_temp.r(302), pg_temp.r(301), pg_temp.p(1), 'llm', pg_temp.t(2), null,
     1, 11, null),
    (pg_temp.r(303), pg_temp.r(302), pg_temp.p(1), 'llm', pg_temp.t(3), null,
     null, null, null),
    (pg_temp.r(304), pg_temp.r(300), pg_temp.p(1), 'llm', pg_temp.t(4), null,
     1, 11, null),
    -- user and template of beta in a run of alpha, and vice versa
    (pg_temp.r(310), null, pg_temp.p(2), 'agent', pg_temp.t(0), null, 1, 11,
     null),
    (pg_temp.r(311), pg_temp.r(310), pg_temp.p(2), 'llm', pg_temp.t(1), null,
     3, 31, null),
    -- a chat of beta between runs of alpha
    (pg_temp.r(320), null, pg_temp.p(1), 'chat', pg_temp.t(0),
     '{"comment": "alpha, top"}', null, null, null),
    (pg_temp.r(321), pg_temp.r(320), pg_temp.p(2), 'agent', pg_temp.t(1),
     null, null, null, null),
    (pg_temp.r(322), pg_temp.r(321), pg_temp.p(1), 'llm', pg_temp.t(2), null,
     null, null, null);


-- 4: deleted

insert into run (id, parent_run_id, project_id, type, created_at, is_deleted,
    feedback)
values
    (pg_temp.r(400), null, pg_temp.p(1), 'chat', pg_temp.t(0), true,
     '{"comment": "of a deleted chat"}'),
    (pg_temp.r(401), pg_temp.r(400), pg_temp.p(1), 'llm', pg_temp.t(1),
     false, null),
    (pg_temp.r(410), null, pg_temp.p(1), 'agent', pg_temp.t(0), false, null),
    (pg_temp.r(411), pg_temp.r(410), pg_temp.p(1), 'chain', pg_temp.t(1),
     true, null),
    (pg_temp.r(412), pg_temp.r(411), pg_temp.p(1), 'llm', pg_temp.t(2),
     false, null),
    (pg_temp.r(413), pg_temp.r(412), pg_temp.p(1), 'llm', pg_temp.t(3),
     true, null),
    (pg_temp.r(414), pg_temp.r(413), pg_temp.p(1), 'llm', pg_temp.t(4),
     true, null),
    (pg_temp.r(415), pg_temp.r(414), pg_temp.p(1), 'llm', pg_temp.t(5),
     null, null),
    (pg_temp.r(430), null, pg_temp.p(1), 'agent', pg_temp.t(0), null, null);


-- 5: threads

insert into run (id, parent_run_id, project_id, type, created_at, is_deleted,
    feedback, input, output)
values
    (pg_temp.r(500), null, pg_temp.p(1), 'thread', pg_temp.t(0), false, null,
     null, null),
    (pg_temp.r(501), pg_temp.r(500), pg_temp.p(1), 'chat', pg_temp.t(1),
     false, '{"thumb": "down", "comment": "no"}',
     '[{"role": "user", "content": "Hello", "message_id": 1}]',
     '[{"role": "assistant", "content": "Hi"}, {"role": "tool"}]'),
    (pg_temp.r(502), pg_temp.r(500), pg_temp.p(1), 'chat', pg_temp.t(2),
     false, null, '[{"role": "user", "content": "Bye"}]',
     '{"role": "assistant", "content": "Bye"}'),
    (pg_temp.r(503), pg_temp.r(501), pg_temp.p(1), 'llm', pg_temp.t(1.5),
     false, null, '[1, 2, 3]', '"not counted"'),
    (pg_temp.r(504), pg_temp.r(503), pg_temp.p(1), 'tool', pg_temp.t(1.6),
     false, null, null, null),
    -- the first message: nulls and empty arrays have none
    (pg_temp.r(510), null, pg_temp.p(1), 'thread', pg_temp.t(0), false, null,
     '"own input"', null),
    (pg_temp.r(511), pg_temp.r(510), pg_temp.p(1), 'chat', pg_temp.t(1),
     false, null, null, null),
    (pg_temp.r(512), pg_temp.r(510), pg_temp.p(1), 'chat', pg_temp.t(2),
     false, null, '[]', 'null'),
    (pg_temp.r(513), pg_temp.r(510), pg_temp.p(1), 'chat', pg_temp.t(3),
     false, null, 'null', '{"role": "assistant", "first_one": true}'),
    (pg_temp.r(514), pg_temp.r(510), pg_temp.p(1), 'chat', pg_temp.t(4),
     false, null, '"text"', '[[], {"a_b": 1}]'),
    -- no message; no child; only children of another project
    (pg_temp.r(520), null, pg_temp.p(1), 'thread', pg_temp.t(0), false, null,
     null, null),
    (pg_temp.r(521), pg_temp.r(520), pg_temp.p(1), 'chat', pg_temp.t(1),
     false, null, '[]', null),
    (pg_temp.r(525), null, pg_temp.p(1), 'thread', pg_temp.t(0), false, null,
     null, null),
    (pg_temp.r(526), null, pg_temp.p(1), 'thread', pg_temp.t(0), false, null,
     null, null),
    (pg_temp.r(527), pg_temp.r(526), pg_temp.p(2), 'chat', pg_temp.t(1),
     false, null, '["secret of beta"]', '["secret of beta"]'),
    (pg_temp.r(528), pg_temp.r(526), pg_temp.p(1), 'llm', pg_temp.t(1),
     false, null, '["of an llm"]', null),
    -- a deleted chat comes first
    (pg_temp.r(530), null, pg_temp.p(1), 'thread', pg_temp.t(0), null, null,
     null, null),
    (pg_temp.r(531), pg_temp.r(530), pg_temp.p(1), 'chat', pg_temp.t(2),
     null, null, '["kept"]', '["kept", "kept"]'),
    (pg_temp.r(532), pg_temp.r(530), pg_temp.p(1), 'chat', pg_temp.t(3),
     true, null, '["gone"]', '["gone"]'),
    -- a thread in a chat of a thread, with the same times
    (pg_temp.r(540), null, pg_temp.p(1), 'thread', pg_temp.t(0), false, null,
     null, null),
    (pg_temp.r(542), pg_temp.r(540), pg_temp.p(1), 'chat', pg_temp.t(0),
     false, '{"thumb": "up"}', '[{"n": 542}]', null),
    (pg_temp.r(541), pg_temp.r(540), pg_temp.p(1), 'chat', pg_temp.t(0),
     false, null, '[{"n": 541}]', null),
    (pg_temp.r(543), pg_temp.r(542), pg_temp.p(1), 'thread', pg_temp.t(0),
     false, null, null, null),
    (pg_temp.r(544), pg_temp.r(543), pg_temp.p(1), 'chat', pg_temp.t(0),
     false, null, 'false', '0'),
    (pg_temp.r(545), pg_temp.r(543), pg_temp.p(1), 'thread', pg_temp.t(0),
     false, null, null, null),
    -- a thread that is its own child
    (pg_temp.r(550), pg_temp.r(550), pg_temp.p(1), 'thread', pg_temp.t(0),
     false, null, null, null),
    (pg_temp.r(551), pg_temp.r(550), pg_temp.p(1), 'chat', pg_temp.t(0),
     false, null, '""', '{}');


-- 6: feedback of the nearest chat above

insert into run (id, parent_run_id, project_id, type, created_at, is_deleted,
    feedback)
values
    (pg_temp.r(600), null, pg_temp.p(1), 'chat', pg_temp.t(0), false,
     '{"thumb": "up", "user_note": {"rated_by": "ada"}}'),
    (pg_temp.r(601), pg_temp.r(600), pg_temp.p(1), 'agent', pg_temp.t(1),
     false, '{"thumb": "down"}'),
    (pg_temp.r(602), pg_temp.r(601), pg_temp.p(1), 'tool', pg_temp.t(2),
     false, null),
    (pg_temp.r(603), pg_temp.r(601), pg_temp.p(1), 'chat', pg_temp.t(3),
     false, null),
    (pg_temp.r(604), pg_temp.r(603), pg_temp.p(1), 'llm', pg_temp.t(4),
     false, null),
    (pg_temp.r(605), pg_temp.r(604), pg_temp.p(1), 'chat', pg_temp.t(5),
     true, '["of a deleted one"]'),
    (pg_temp.r(606), pg_temp.r(605), pg_temp.p(1), 'llm', pg_temp.t(6),
     false, null),
    (pg_temp.r(607), pg_temp.r(605), pg_temp.p(1), 'chat', pg_temp.t(7),
     false, 'null'),
    (pg_temp.r(608), pg_temp.r(607), pg_temp.p(1), 'llm', pg_temp.t(8),
     false, 'false');


-- 7: values; a root with a child for each value

insert into run (id, project_id, type, name, created_at) values
    (pg_temp.r(700), pg_temp.p(1), 'agent', 'values', pg_temp.t(0));

insert into run (id, parent_run_id, project_id, type, name, created_at, input)
select pg_temp.r((700 + n)::integer), pg_temp.r(700), pg_temp.p(1), 'llm',
    'jsonb', pg_temp.t(n), v::jsonb
from unnest(array[
    'null', 'true', 'false', '0', '-0', '1e400', '-1E-5', '1.0', '1.10',
    '0.10000000000000000000001', '123456789012345678901234567890',
    '1e5', '""', '"text"', '[]', '{}', '[null]', '[[[[[]]]]]',
    '{"a": null}', '{"": 1}', '{"_": 1}', '{"__": 1}', '{"___": 1}',
    '{"_id": 1}', '{"__id": 1}', '{"a_": 1}', '{"a__": 1}', '{"a__b": 1}',
    '{"a___b": 1}', '{"max_tokens": 1}', '{"MAX_TOKENS": 1}',
    '{"a_1": 1}', '{"a_B": 1}', '{"a_b_c_d": 1}', '{"a-b c.d": 1}',
    '{"a_\u00e9t\u00e9": 1}', '{"\u00e9_a": 1}', '{"\u4e2d_\u6587": 1}',
    '{"\ud83d\ude00_\ud83d\ude00": "\ud83d\ude00"}',
    '{"a_\"": 1}', '{"a_\\": 1}', '{"a\\_b": 1}', '{"\\_b": 1}',
    '{"\"_b": 1}', '{"a_\n": 1}', '{"a_\u0001b": 1}', '{"\u0001_b": 1}',
    '{"_\n": 1}', '{"a_/": 1}', '{"a\u007f_\u007f": 1}',
    '{"a_b": 1, "aB": 2, "a__b": 3}',
    '{"a_b": {"c_d": [{"e_f": "g_h"}, "i_j"]}, "k_l": "m_n"}',
    '"\u0001\u0002\u001f\u007f \b\f\n\r\t \" \\ / \u2028 \u00e9 \ud83d\ude00"',
    '{"k": "a_b: {\"c_d\": 1}"}', '["a_b", "\"a_b\":", "\\"]',
    '{"a_b" : "c_d" , "e" : ["f_g" , {"h_i":[]}]}'
]) with ordinality as x (v, n);

-- every jsonb column with every kind of value
insert into run (id, parent_run_id, project_id, type, name, created_at,
    input, output, error, params, metadata, feedback)
select pg_temp.r((780 + n)::integer), pg_temp.r(700), pg_temp.p(1), 'llm',
    'columns', pg_temp.t(100 + n), v, v, v, v, v, v
from unnest(array[null, 'null', 'true', '1.50', '"s"', '[1, {"a_b": 2}]',
    '{"a_b": {"c_d": null}}']::jsonb[]) with ordinality as x (v, n);

-- nested deeply
insert into run (id, parent_run_id, project_id, type, name, created_at,
    input, output)
values
    (pg_temp.r(790), pg_temp.r(700), pg_temp.p(1), 'llm', 'nested',
     pg_temp.t(200), (repeat('[', 1000) || repeat(']', 1000))::jsonb,
     (repeat('{"a_b": ', 1000) || '1e-7' || repeat('}', 1000))::jsonb);

-- times (the column duration fails for the difference of a finite and an
-- infinite time, and for differences that are too large for an interval)
insert into run (id, parent_run_id, project_id, type, name, created_at,
    ended_at)
select pg_temp.r((7100 + n)::integer), pg_temp.r(700), pg_temp.p(1), 'llm',
    'times', c, e
from unnest(array[
    'infinity', '-infinity', '0001-01-01 00:00:00+00',
    '0001-12-31 23:59:59.999999+00 BC', '0044-03-15 12:00:00+00 BC',
    '4713-01-01 00:00:00+00 BC', '9999-12-31 23:59:59.999999+00',
    '10000-01-01 00:00:00+00', '294276-12-31 23:59:59.999999+00',
    '1969-12-31 23:59:59.9999+00', '1970-01-01 00:00:00+00',
    '1999-12-31 23:59:59.999999+00', '2000-01-01 00:00:00.000001+00',
    '2000-02-29 12:00:00.0005+00', '1900-02-28 23:59:59.0009+00',
    '2026-03-29 02:30:00+01', '2026-11-10 21:48:04.09+00'
    ]::timestamptz[], array[
    null, null, '0001-01-01 00:00:00.000001+00',
    '0001-01-01 00:00:00+00', '0044-03-15 11:59:59.5+00 BC',
    '287500-12-31 23:59:59.999999+00', '10000-01-01 00:00:00+00',
    '9999-12-31 23:59:59.999999+00', '2100-01-01 00:00:00+00',
    '1970-01-01 00:00:00.0001+00', '1970-01-01 00:00:00+00',
    '2000-01-01 00:00:00+00', '1999-12-31 23:59:59.999999+00',
    '2000-02-29 12:00:10.0105+00', '1900-03-01 00:00:00+00',
    '2026-03-29 04:30:00+02', '2026-11-10 21:48:05.190000+00'
    ]::timestamptz[]) with ordinality as x (c, e, n);

-- costs
insert into run (id, parent_run_id, project_id, type, name, created_at, cost,
    prompt_tokens, completion_tokens)
select pg_temp.r((7200 + n)::integer), pg_temp.r(700), pg_temp.p(1), 'llm',
    'costs', pg_temp.t(300 + n), c, p, q
from unnest(array['NaN', 'Infinity', '-Infinity', '0', '-0', '1', '-1', '0.1',
    '0.30000000000000004', '1e21', '1e22', '123456789012345680', '1e-6',
    '1e-7', '5e-324', '1.7976931348623157e308', '2.2250738585072014e-308',
    '9007199254740993', '0.000123', '100', '1e5', '1e15', '1e16', '1e17',
    '1.5e300', '4.35', '2.675']::float8[], array[null, 0, 1, 2147483647,
    2147483647, -5]::integer[], array[null, null, 2, 2147483647,
    -2147483648, 5]::integer[]) with ordinality as x (c, p, q, n);

-- tags
insert into run (id, parent_run_id, project_id, type, name, created_at, tags)
select pg_temp.r((7300 + n)::integer), pg_temp.r(700), pg_temp.p(1), 'llm',
    'tags', pg_temp.t(400 + n), v::text[]
from unnest(array['{}', '{a}', '{NULL}', '{a,NULL,b}', '{"NULL"}',
    E'{"with \\"quotes\\"","back\\\\slash","comma,","{brace}",""," "}',
    E'{"line\nfeed","tab\tstop","\u0001\u001f\u007f"}',
    E'{\u00e9t\u00e9,\u4e2d\u6587,\U0001f600}', '{{a,b},{c,d}}',
    '{{{a},{b}},{{NULL},{d}}}', '[5:6]={x,y}'])
    with ordinality as x (v, n);

-- texts
insert into run (id, parent_run_id, project_id, type, name, created_at,
    status)
select pg_temp.r((7400 + n)::integer), pg_temp.r(700), pg_temp.p(1), v, v,
    pg_temp.t(500 + n), v
from unnest(array['', ' ', '"', '\', '/', '</script>', 'null', 'a_b',
    E'\b\f\n\r\t', E'\u0001\u0002\u001e\u001f\u007f\u0080',
    E'\u2028\u2029\ufeff\ufffd', E'\u00e9\u4e2d\U0001f600\U0010ffff',
    repeat('x', 5000), repeat(E'"\\\n', 2000)])
    with ordinality as x (v, n);

-- users and templates
insert into run (id, parent_run_id, project_id, type, name, created_at,
    external_user_id, template_version_id)
select pg_temp.r((7500 + n)::integer), pg_temp.r(700), pg_temp.p(1), 'llm',
    'users', pg_temp.t(600 + n), u, v
from unnest(array[1, 2, 3, 4, 5, 2147483647, null]::bigint[],
    array[11, 21, 31, 41, 12, null, 11]::integer[])
    with ordinality as x (u, v, n);


-- 8: a chain of a thousand, a chat in the middle

insert into run (id, parent_run_id, project_id, type, name, created_at,
    feedback)
select pg_temp.r(80000 + n),
    case when n > 0 then pg_temp.r(80000 + n - 1) end, pg_temp.p(1),
    case when n = 500 then 'chat' else 'chain' end, 'level ' || n,
    pg_temp.t(n), case when n = 500 then '{"deep_one": true}'::jsonb end
from generate_series(0, 999) n;


-- 9: a thousand children, about a megabyte

insert into run (id, parent_run_id, project_id, type, name, created_at,
    input, output, tags)
select pg_temp.r(90000 + n),
    case when n > 0 then pg_temp.r(90000) end, pg_temp.p(1),
    case when n = 0 then 'agent' else 'llm' end, 'child ' || n,
    pg_temp.t(n % 100),
    jsonb_build_object('prompt_text', repeat(md5(n::text) || ' ', 20)),
    jsonb_build_array(jsonb_build_object('output_text', md5((-n)::text)), n),
    array['n' || n % 7]
from generate_series(0, 1000) n;


analyze;
