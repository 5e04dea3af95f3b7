-- Sample traces of the demonstration: a support desk with agents.  Ids and the
-- key are fixed, so that the printed commands always work.
--
-- A line "-- sample:" has the id and the title of a run that the demonstration
-- shows.

-- sample: b51c7e0a-94d2-4f6b-8a37-000000000001 Refund by an agent
-- sample: 3d7f20c4-1b8e-4c59-9e06-000000000001 Chat thread with feedback
-- sample: e82a6b19-5c47-4d30-b1f8-000000000001 A run that failed
-- sample: 70c9d3f5-a26e-4b81-8d14-000000000001 Research, 60 runs
-- sample: 9f14e8b6-03d7-4a2c-95be-000000000001 Code review, still running
-- sample: c06b5d2f-e791-4834-a2dd-000000000001 Parents in a cycle

\set ON_ERROR_STOP on

begin;


-- the project, its keys, its member, its users, its templates

insert into project (id, created_at, name, org_id) values
    ('2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263', '2026-02-03 09:12:44+00',
     'Parcel desk', '8c1e5b70-2d94-4f3a-b6c8-10f7e9a3d542');

insert into api_key (type, api_key, project_id, org_id) values
    ('private', 'd3a05c1e-6f28-4b97-8e41-7c2b9d0f5a36',
     '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263',
     '8c1e5b70-2d94-4f3a-b6c8-10f7e9a3d542'),
    ('public', '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263',
     '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263',
     '8c1e5b70-2d94-4f3a-b6c8-10f7e9a3d542');

insert into account (id, created_at, email, name, org_id, role) values
    ('5b8f2a17-c3d0-4e96-8f14-2a7d60c9e835', '2026-02-03 09:12:41+00',
     'noor@example.com', 'Noor Haddad',
     '8c1e5b70-2d94-4f3a-b6c8-10f7e9a3d542', 'viewer');

insert into account_project (account_id, project_id) values
    ('5b8f2a17-c3d0-4e96-8f14-2a7d60c9e835',
     '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263');

insert into external_user (id, created_at, project_id, external_id, last_seen,
    props)
values
    (1, '2026-03-18 07:55:02+00', '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263',
     'cus_8412', '2026-11-10 21:48:13.210+00',
     '{"name": "Marta Lindqvist", "email": "marta@example.com",
       "plan": "plus", "country": "SE"}'),
    (2, '2026-09-01 16:20:37+00', '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263',
     'cus_9377', '2026-11-10 22:19:41.008+00',
     '{"name": "Tomás Herrera", "email": "tomas@example.com",
       "plan": "basic", "country": "ES"}'),
    (3, '2026-06-11 11:02:19+00', '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263',
     'staff_031', '2026-11-11 08:31:05.640+00',
     '{"name": "Aiko Tanaka", "team": "insights", "is_staff": true}');

insert into template (id, created_at, name, slug, project_id, mode) values
    (11, '2026-04-22 13:00:00+00', 'Refund decision', 'refund-decision',
     '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263', 'openai'),
    (12, '2026-05-02 10:30:00+00', 'Helpdesk answer', 'helpdesk-answer',
     '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263', 'openai'),
    (13, '2026-10-08 08:15:00+00', 'Source summary', 'source-summary',
     '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263', 'openai');

insert into template_version (id, template_id, version, is_draft, content,
    extra)
values
    (41, 11, 7, false, '[{"role": "system", "content": "You decide refunds."}]',
     '{"model": "gpt-4o", "temperature": 0}'),
    (42, 12, 3, false, '[{"role": "system", "content": "You help customers."}]',
     '{"model": "gpt-4o-mini", "temperature": 0.3}'),
    (43, 13, 1, false, '[{"role": "user", "content": "Summarise {{source}}"}]',
     '{"model": "gpt-4o-mini", "temperature": 0.1}');


-- one run: n is its number in the trace, at and ms its start and length in
-- milliseconds (ms null: it still runs)

create function pg_temp.run(
    trace text, start timestamptz,
    n integer, parent integer, type text, name text, at integer, ms integer,
    input jsonb default null, output jsonb default null,
    prompt integer default null, completion integer default null,
    cost float8 default null, params jsonb default null,
    metadata jsonb default null, error jsonb default null,
    feedback jsonb default null, tags text[] default null,
    usr bigint default null, tmpl integer default null,
    status text default 'success', cached integer default 0)
returns void
language sql as $$
    insert into run (id, parent_run_id, project_id, type, name, created_at,
        ended_at, status, input, output, prompt_tokens, completion_tokens,
        cost, params, metadata, error, feedback, tags, external_user_id,
        template_version_id, cached_prompt_tokens, runtime)
    select (trace || lpad(to_hex(n), 12, '0'))::uuid,
           (trace || lpad(to_hex(parent), 12, '0'))::uuid,
           '2f6d91c8-7b3a-4e05-9c1f-5a8e40d7b263', type, name,
           start + at * interval '1 millisecond',
           start + (at + ms) * interval '1 millisecond',
           status, input, output, prompt, completion, cost, params, metadata,
           error, feedback, tags, usr, tmpl, cached, 'langchain-js';
$$;


-- 1. An agent with chains, tool calls and LLM calls

\set trace '\'b51c7e0a-94d2-4f6b-8a37-\''
\set start '\'2026-11-10 21:48:04.090+00\''

select pg_temp.run(:trace, :start, 1, null, 'agent', 'parcel-agent', 0, 9118,
    input => '{"ticket": "T-20931", "channel": "email",
        "message": "Hi, order 58-1140 should have been here last Thursday and tracking has not moved for six days. I would like my money back, please. Marta"}',
    output => '{"reply": "Hi Marta, I am sorry about the wait. Your parcel is lost with the carrier, so I have refunded 48.90 EUR to your card; it arrives within three working days. You need not do anything.",
        "actions": ["refund_issued", "carrier_claim_opened"]}',
    metadata => '{"environment": "production", "release": "2026.11.2",
        "ticket_id": "T-20931", "queue_seconds": 3.2}',
    tags => '{support,refund,email}', usr => 1);

select pg_temp.run(:trace, :start, 2, 1, 'chain', 'understand', 34, 1296,
    input => '{"message": "Hi, order 58-1140 should have been here last Thursday …"}',
    output => '{"intent": "refund_request", "order": "58-1140", "sentiment": "annoyed", "language": "en"}',
    usr => 1);

select pg_temp.run(:trace, :start, 3, 2, 'llm', 'gpt-4o-mini', 41, 1262,
    input => '[{"role": "system", "content": "Classify the customer''s message. Answer in JSON with intent, order, sentiment and language."},
        {"role": "user", "content": "Hi, order 58-1140 should have been here last Thursday and tracking has not moved for six days. I would like my money back, please. Marta"}]',
    output => '{"role": "assistant", "content": "{\"intent\":\"refund_request\",\"order\":\"58-1140\",\"sentiment\":\"annoyed\",\"language\":\"en\"}"}',
    prompt => 118, completion => 31, cost => 0.0000363,
    params => '{"temperature": 0, "max_tokens": 200, "response_format": {"type": "json_object"}}',
    usr => 1);

select pg_temp.run(:trace, :start, 4, 1, 'tool', 'orders.lookup', 1348, 212,
    input => '{"order": "58-1140"}',
    output => '{"order": "58-1140", "placed_at": "2026-10-29T18:04:11Z", "total": {"amount": "48.90", "currency": "EUR"},
        "items": [{"sku": "LMP-204", "title": "Desk lamp, oak", "quantity": 1}],
        "shipment": {"carrier": "northpost", "tracking_number": "NP4471029SE"}}',
    metadata => '{"http_status": 200, "attempt": 1}', usr => 1);

select pg_temp.run(:trace, :start, 5, 1, 'tool', 'carrier.track', 1571, 1844,
    input => '{"carrier": "northpost", "tracking_number": "NP4471029SE"}',
    output => '{"status": "in_transit", "last_event": {"at": "2026-11-04T02:17:00Z", "place": "Malmö terminal", "text": "Departed"},
        "estimated_delivery": "2026-11-05", "days_without_event": 6}',
    metadata => '{"http_status": 200, "attempt": 2, "retried_after_ms": 1000}',
    usr => 1);

select pg_temp.run(:trace, :start, 6, 1, 'retriever', 'policy-search', 1573, 486,
    input => '"lost parcel refund without return"',
    output => '[{"page_content": "A parcel without a carrier event for five days counts as lost. The customer chooses between a refund and a new delivery; nothing has to be returned.", "score": 0.871, "metadata": {"doc_id": "policy-12", "section": "4.2"}},
        {"page_content": "Refunds up to 100 EUR are given without approval.", "score": 0.802, "metadata": {"doc_id": "policy-12", "section": "4.5"}}]',
    metadata => '{"top_k": 2, "index": "policies-2026-10"}', usr => 1);

select pg_temp.run(:trace, :start, 7, 6, 'embed', 'text-embedding-3-small', 1580, 171,
    input => '["lost parcel refund without return"]',
    output => '{"dimensions": 1536}',
    prompt => 7, cost => 0.00000014, usr => 1);

select pg_temp.run(:trace, :start, 8, 1, 'chain', 'decide', 3431, 2902,
    input => '{"order": "58-1140", "days_without_event": 6, "policies": ["policy-12#4.2", "policy-12#4.5"]}',
    output => '{"decision": "refund", "amount": "48.90", "currency": "EUR"}',
    usr => 1);

select pg_temp.run(:trace, :start, 9, 8, 'llm', 'gpt-4o', 3440, 2103,
    input => '[{"role": "system", "content": "You decide refunds. Follow the policies to the letter. Call a tool when the case is clear."},
        {"role": "user", "content": "Order 58-1140, 48.90 EUR, one desk lamp. Last carrier event six days ago (Malmö terminal, Departed). The customer asks for a refund.\n\nPolicies:\n- 4.2 A parcel without a carrier event for five days counts as lost.\n- 4.5 Refunds up to 100 EUR are given without approval."}]',
    output => '{"role": "assistant", "content": null,
        "tool_calls": [{"id": "call_Jx81", "type": "function", "function": {"name": "payments_refund", "arguments": "{\"order\":\"58-1140\",\"amount\":\"48.90\",\"currency\":\"EUR\",\"reason\":\"lost_in_transit\"}"}}]}',
    prompt => 642, completion => 58, cost => 0.002185, cached => 512,
    params => '{"temperature": 0, "max_tokens": 400, "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"name": "payments_refund", "description": "Refund an order", "parameters": {"type": "object", "properties": {"order": {"type": "string"}, "amount": {"type": "string"}}}}}]}',
    tmpl => 41, usr => 1);

select pg_temp.run(:trace, :start, 10, 8, 'tool', 'payments.refund', 5561, 758,
    input => '{"order": "58-1140", "amount": "48.90", "currency": "EUR", "reason": "lost_in_transit"}',
    output => '{"refund_id": "re_3QbT0a", "state": "pending", "arrives_by": "2026-11-13"}',
    metadata => '{"http_status": 201, "idempotency_key": "T-20931-refund"}',
    usr => 1);

select pg_temp.run(:trace, :start, 11, 1, 'tool', 'carrier.claim', 6342, 391,
    input => '{"tracking_number": "NP4471029SE", "value": "48.90"}',
    output => '{"claim": "NP-C-88213"}', usr => 1);

select pg_temp.run(:trace, :start, 12, 1, 'llm', 'gpt-4o', 6748, 2341,
    input => '[{"role": "system", "content": "You write for the parcel desk: warm, short, no promises we cannot keep."},
        {"role": "user", "content": "Tell Marta: parcel lost, 48.90 EUR refunded to her card, three working days, nothing to do for her."}]',
    output => '{"role": "assistant", "content": "Hi Marta, I am sorry about the wait. Your parcel is lost with the carrier, so I have refunded 48.90 EUR to your card; it arrives within three working days. You need not do anything."}',
    prompt => 214, completion => 52, cost => 0.001055,
    params => '{"temperature": 0.4, "max_tokens": 300}',
    metadata => '{"finish_reason": "stop", "time_to_first_token_ms": 412}',
    feedback => '{"thumb": "up", "comment": "Solved in one mail. Thank you!"}',
    tags => '{reply}', tmpl => 42, usr => 1);


-- 2. Chat thread with feedback

\set trace '\'3d7f20c4-1b8e-4c59-9e06-\''
\set start '\'2026-11-10 22:17:02.300+00\''

select pg_temp.run(:trace, :start, 1, null, 'thread', 'Address change', 0, 158708,
    metadata => '{"widget": "help-center", "locale": "es-ES"}',
    tags => '{chat,address}', usr => 2);

select pg_temp.run(:trace, :start, 2, 1, 'chat', 'message', 150, 4120,
    input => '[{"role": "user", "content": "hola! me he mudado, puedo cambiar la dirección de un pedido que ya está pagado?"}]',
    output => '[{"role": "assistant", "content": "¡Hola, Tomás! Sí, mientras el paquete no haya salido del almacén. ¿Me dices el número de pedido y la nueva dirección?"}]',
    feedback => '{"thumb": "up"}', usr => 2);

select pg_temp.run(:trace, :start, 3, 2, 'retriever', 'help-center', 190, 610,
    input => '"cambiar dirección pedido pagado"',
    output => '[{"page_content": "An address can be changed until the parcel leaves the warehouse.", "score": 0.913, "metadata": {"doc_id": "help-031"}}]',
    usr => 2);

select pg_temp.run(:trace, :start, 4, 2, 'llm', 'gpt-4o-mini', 830, 3390,
    input => '[{"role": "system", "content": "You help customers, in their language. Context: An address can be changed until the parcel leaves the warehouse."},
        {"role": "user", "content": "hola! me he mudado, puedo cambiar la dirección de un pedido que ya está pagado?"}]',
    output => '{"role": "assistant", "content": "¡Hola, Tomás! Sí, mientras el paquete no haya salido del almacén. ¿Me dices el número de pedido y la nueva dirección?"}',
    prompt => 187, completion => 44, cost => 0.00005445,
    params => '{"temperature": 0.3, "max_tokens": 400, "stream": true}',
    tmpl => 42, usr => 2);

select pg_temp.run(:trace, :start, 5, 1, 'chat', 'message', 61240, 7205,
    input => '[{"role": "user", "content": "58-1207, Calle del Olmo 14, 3º B, 28012 Madrid"}]',
    output => '[{"role": "assistant", "content": "Hecho ✅ El pedido 58-1207 va ahora a Calle del Olmo 14, 3º B, 28012 Madrid. Sale mañana."}]',
    usr => 2);

select pg_temp.run(:trace, :start, 6, 5, 'llm', 'gpt-4o-mini', 61310, 1905,
    input => '[{"role": "system", "content": "You help customers, in their language."},
        {"role": "user", "content": "58-1207, Calle del Olmo 14, 3º B, 28012 Madrid"}]',
    output => '{"role": "assistant", "content": null, "tool_calls": [{"id": "call_P02k", "type": "function", "function": {"name": "orders_set_address", "arguments": "{\"order\":\"58-1207\",\"street\":\"Calle del Olmo 14, 3º B\",\"postcode\":\"28012\",\"city\":\"Madrid\"}"}}]}',
    prompt => 301, completion => 62, cost => 0.00008235,
    params => '{"temperature": 0.3, "max_tokens": 400}', tmpl => 42, usr => 2);

select pg_temp.run(:trace, :start, 7, 5, 'tool', 'orders.set_address', 63260, 1480,
    input => '{"order": "58-1207", "street": "Calle del Olmo 14, 3º B", "postcode": "28012", "city": "Madrid"}',
    output => '{"ok": true, "ships_at": "2026-11-11"}', usr => 2);

select pg_temp.run(:trace, :start, 8, 5, 'llm', 'gpt-4o-mini', 64790, 3610,
    input => '[{"role": "user", "content": "58-1207, Calle del Olmo 14, 3º B, 28012 Madrid"},
        {"role": "tool", "tool_call_id": "call_P02k", "content": "{\"ok\":true,\"ships_at\":\"2026-11-11\"}"}]',
    output => '{"role": "assistant", "content": "Hecho ✅ El pedido 58-1207 va ahora a Calle del Olmo 14, 3º B, 28012 Madrid. Sale mañana."}',
    prompt => 388, completion => 39, cost => 0.0000816,
    params => '{"temperature": 0.3, "max_tokens": 400, "stream": true}',
    tmpl => 42, usr => 2);

select pg_temp.run(:trace, :start, 9, 1, 'chat', 'message', 151900, 6808,
    input => '[{"role": "user", "content": "genial. y llega antes del viernes?"}]',
    output => '[{"role": "assistant", "content": "Lo más probable es el lunes, 16 de noviembre."}]',
    feedback => '{"thumb": "down", "comment": "Tarde. La otra tienda entrega en 24 h."}',
    usr => 2);

select pg_temp.run(:trace, :start, 10, 9, 'llm', 'gpt-4o-mini', 152010, 6590,
    input => '[{"role": "user", "content": "genial. y llega antes del viernes?"}]',
    output => '{"role": "assistant", "content": "Lo más probable es el lunes, 16 de noviembre."}',
    prompt => 431, completion => 21, cost => 0.00007725,
    params => '{"temperature": 0.3, "max_tokens": 400, "stream": true}',
    tmpl => 42, usr => 2);


-- 3. A run that failed

\set trace '\'e82a6b19-5c47-4d30-b1f8-\''
\set start '\'2026-11-11 03:00:00.412+00\''

select pg_temp.run(:trace, :start, 1, null, 'agent', 'invoice-import', 0, 48231,
    input => '{"mailbox": "invoices@example.com", "message_id": "<20261111025811.4412@example.net>", "attachments": ["invoice-2026-1187.pdf"]}',
    error => '{"message": "The model is overloaded after 3 attempts", "code": "rate_limit_exceeded",
        "stack": "RateLimitError: The model is overloaded after 3 attempts\n    at extract (/app/src/extract.ts:88:13)\n    at async run (/app/src/agent.ts:41:20)"}',
    metadata => '{"environment": "production", "cron": "0 3 * * *"}',
    tags => '{invoices,nightly}', status => 'error');

select pg_temp.run(:trace, :start, 2, 1, 'tool', 'pdf.read', 22, 2140,
    input => '{"file": "invoice-2026-1187.pdf"}',
    output => '{"pages": 2, "text": "NORTHPOST AB · Invoice 2026-1187 · 2026-11-09\n1 204 parcels, October 2026 … 9 632,00\nVAT 25 % … 2 408,00\nTotal SEK 12 040,00"}');

select pg_temp.run(:trace, :start, 3, 1, 'chain', 'extract', 2180, 46020,
    input => '{"schema": "invoice-v3"}',
    error => '{"message": "The model is overloaded after 3 attempts", "code": "rate_limit_exceeded"}',
    status => 'error');

select pg_temp.run(:trace, :start, 4, 3, 'llm', 'gpt-4o', 2190, 15002,
    input => '[{"role": "system", "content": "Extract the invoice as JSON."}, {"role": "user", "content": "NORTHPOST AB · Invoice 2026-1187 · 2026-11-09 …"}]',
    error => '{"message": "Request timed out after 15000 ms", "code": "ETIMEDOUT"}',
    params => '{"temperature": 0, "max_tokens": 800, "timeout_ms": 15000}',
    metadata => '{"attempt": 1}', status => 'error');

select pg_temp.run(:trace, :start, 5, 3, 'llm', 'gpt-4o', 19200, 812,
    input => '[{"role": "system", "content": "Extract the invoice as JSON."}, {"role": "user", "content": "NORTHPOST AB · Invoice 2026-1187 · 2026-11-09 …"}]',
    error => '{"message": "429 Too Many Requests", "code": "rate_limit_exceeded", "headers": {"retry-after": "20", "x_request_id": "req_5d0c"}}',
    params => '{"temperature": 0, "max_tokens": 800, "timeout_ms": 15000}',
    metadata => '{"attempt": 2}', status => 'error');

select pg_temp.run(:trace, :start, 6, 3, 'llm', 'gpt-4o', 40020, 8170,
    input => '[{"role": "system", "content": "Extract the invoice as JSON."}, {"role": "user", "content": "NORTHPOST AB · Invoice 2026-1187 · 2026-11-09 …"}]',
    output => '{"role": "assistant", "content": "{\"supplier\":\"NORTHPOST AB\",\"number\":\"2026-1187\",\"total\":"}',
    error => '{"message": "Stream closed: server overloaded", "code": "overloaded"}',
    prompt => 1310, completion => 17, cost => 0.003445,
    params => '{"temperature": 0, "max_tokens": 800, "timeout_ms": 15000}',
    metadata => '{"attempt": 3, "finish_reason": null}', status => 'error');

select pg_temp.run(:trace, :start, 7, 1, 'custom-event', 'alert', 48210, 0,
    input => '{"channel": "#ops", "text": "invoice-import failed: 2026-1187"}');


-- 4. Research: 60 runs.  A planner, six questions side by side with searches,
-- pages, summaries and notes, then a report

\set trace '\'70c9d3f5-a26e-4b81-8d14-\''
\set start '\'2026-11-11 08:30:11.250+00\''

select pg_temp.run(:trace, :start, 1, null, 'agent', 'research-agent', 0, 54390,
    input => '{"question": "Should we offer parcel lockers in the Nordic countries in 2027? Costs, competitors, what customers want, sustainability.", "depth": "thorough"}',
    output => '{"report_id": "rep_20261111_01", "words": 1840, "sources": 18,
        "answer": "Yes, in Sweden and Finland first, with a partner''s lockers rather than our own."}',
    metadata => '{"environment": "staging", "budget_usd": 1.5}',
    tags => '{research,lockers}', usr => 3,
    feedback => '{"thumb": "up", "comment": "Good sources, and it says what it does not know."}');

select pg_temp.run(:trace, :start, 2, 1, 'chain', 'plan', 40, 4210,
    input => '{"question": "Should we offer parcel lockers in the Nordic countries in 2027?"}',
    output => '{"questions": 6}', usr => 3);

select pg_temp.run(:trace, :start, 3, 2, 'llm', 'o4-mini', 60, 4160,
    input => '[{"role": "user", "content": "Split into at most six questions that can be researched side by side: Should we offer parcel lockers in the Nordic countries in 2027? Costs, competitors, what customers want, sustainability."}]',
    output => '{"role": "assistant", "content": "1. What does a locker cost to place and run?\n2. Who runs lockers in the Nordics today?\n3. What do customers prefer, and why?\n4. How do lockers change emissions per parcel?\n5. Which rules apply to lockers in public places?\n6. What do partner networks charge per parcel?"}',
    prompt => 164, completion => 812, cost => 0.0037532,
    params => '{"reasoning_effort": "medium", "max_completion_tokens": 4000}',
    usr => 3);

with question (q, subject, began) as (
    values (0, 'What does a locker cost to place and run?', 4300),
           (1, 'Who runs lockers in the Nordics today?', 4320),
           (2, 'What do customers prefer, and why?', 4345),
           (3, 'How do lockers change emissions per parcel?', 4360),
           (4, 'Which rules apply to lockers in public places?', 4390),
           (5, 'What do partner networks charge per parcel?', 4410)
),
step (k, under, type, name, at, ms) as (
    values (0, null, 'agent', 'researcher', 0, 33400),
           (1, 0, 'tool', 'web.search', 60, 1480),
           (2, 0, 'chain', 'read', 1600, 21700),
           (3, 2, 'tool', 'web.fetch', 1640, 2350),
           (4, 2, 'tool', 'web.fetch', 1650, 4120),
           (5, 2, 'llm', 'gpt-4o-mini', 5830, 7240),
           (6, 2, 'llm', 'gpt-4o-mini', 13110, 9900),
           (7, 0, 'embed', 'text-embedding-3-small', 23380, 420),
           (8, 0, 'llm', 'gpt-4o', 23860, 9460)
),
fact (q, page, content) as (
    values (0, 'A locker with 60 compartments costs 11 000 to 16 000 EUR to place and about 1 900 EUR a year to run.', 'Placement is the smaller part: electricity, rent and cleaning add up to its price in seven years.'),
           (1, 'Four networks share more than nine tenths of the lockers in Sweden, Finland, Denmark and Norway.', 'Two of the four let other carriers in, at list prices.'),
           (2, 'In a survey of 2 104 buyers 61 % chose a locker over a service point when both were within 500 m.', 'The reasons named first: open at night, no queue, no talking.'),
           (3, 'One stop for forty parcels instead of forty stops: the last mile''s emissions fall by half to two thirds, if people walk.', 'Where one in four drives to the locker on purpose, the gain is gone.'),
           (4, 'On private ground no permit is needed in Sweden and Finland; on streets the municipality leases the place.', 'Accessibility: the upper compartments must not be the only free ones.'),
           (5, 'Partners ask 1.15 to 1.60 EUR a parcel, less above 50 000 parcels a year.', 'Own lockers break even near 38 parcels a day and place.')
)
select pg_temp.run(:trace, :start, 4 + q * 9 + k,
    case when under is null then 1 else 4 + q * 9 + under end, type, name,
    began + (at * (1 + q * 0.06) * (1 - (q % 3) * 0.11))::integer,
    (ms * (1 + q * 0.06) * (1 - (q % 3) * 0.11))::integer,
    input => case
        when k in (0, 1) then jsonb_build_object('query', subject)
        when k = 2 then jsonb_build_object('question', subject, 'max_pages', 2)
        when k in (3, 4) then jsonb_build_object('url',
            'https://example.org/' || (q * 2 + k - 3) || '/lockers',
            'timeout_ms', 8000)
        when k in (5, 6) then jsonb_build_array(jsonb_build_object('role',
            'user', 'content', 'Summarise for the question "' || subject
            || E'"\n\n' || case k when 5 then page else content end))
        when k = 7 then to_jsonb(array[page, content])
        else jsonb_build_array(
            jsonb_build_object('role', 'system', 'content',
                'Answer from the notes only, and say what they leave open.'),
            jsonb_build_object('role', 'user', 'content',
                subject || E'\n\n- ' || page || E'\n- ' || content))
    end,
    output => case
        when k = 0 then jsonb_build_object('answer', page || ' ' || content,
            'confidence', round(0.71 + q * 0.04, 2))
        when k = 1 then jsonb_build_object('total_hits', 1200 + 317 * q,
            'results', jsonb_build_array(
                jsonb_build_object('rank', 1, 'url', 'https://example.org/'
                    || (q * 2) || '/lockers'),
                jsonb_build_object('rank', 2, 'url', 'https://example.org/'
                    || (q * 2 + 1) || '/lockers')))
        when k = 2 then jsonb_build_object('notes', 2)
        when k in (3, 4) then jsonb_build_object('http_status', 200,
            'content_type', 'text/html', 'body_bytes', 18000 + 2311 * (q + k))
        when k in (5, 6) then jsonb_build_object('role', 'assistant',
            'content', case k when 5 then page else content end)
        when k = 7 then '{"dimensions": 1536}'
        else jsonb_build_object('role', 'assistant', 'content',
            page || ' ' || content)
    end,
    prompt => case when k in (5, 6) then 2900 + 211 * q + 97 * k
                   when k = 7 then 58 when k = 8 then 690 + 31 * q end,
    completion => case when k in (5, 6) then 140 + 9 * q
                       when k = 8 then 205 + 12 * q end,
    cost => case when k in (5, 6)
                 then ((2900 + 211 * q + 97 * k) * 0.15 + (140 + 9 * q) * 0.6)
                      / 1e6
                 when k = 7 then 58 * 0.02 / 1e6
                 when k = 8
                 then ((690 + 31 * q) * 2.5 + (205 + 12 * q) * 10) / 1e6 end,
    params => case when k in (5, 6) then '{"temperature": 0.1, "max_tokens": 500}'::jsonb
                   when k = 8 then '{"temperature": 0.2, "max_tokens": 900}' end,
    metadata => case when k = 0 then jsonb_build_object('question_no', q + 1)
                     when k in (3, 4) then '{"cache_status": "MISS"}' end,
    tags => case when k = 0 then array['sub-agent'] end,
    tmpl => case when k in (5, 6) then 43 end, usr => 3)
from question join fact using (q), step
order by q, k;

select pg_temp.run(:trace, :start, 58, 1, 'chain', 'write', 41900, 12430,
    input => '{"outline": ["Summary", "Costs", "Market", "Customers", "Sustainability", "Rules", "Recommendation"]}',
    output => '{"words": 1840}', usr => 3);

select pg_temp.run(:trace, :start, 59, 58, 'llm', 'gpt-4o', 41930, 9640,
    input => '[{"role": "system", "content": "Write a report of at most 2 000 words for people who decide. Cite by number."}, {"role": "user", "content": "Six answers with their notes …"}]',
    output => '{"role": "assistant", "content": "## Summary\n\nOffer lockers in Sweden and Finland in 2027, through a partner. Own lockers pay only where a place sees 38 parcels a day [11], and we know of nine such places.\n\n## What we do not know\n\nHow many of our customers would drive to a locker; above one in four the emissions gained are lost again [8]."}',
    prompt => 4820, completion => 1932, cost => 0.03137,
    params => '{"temperature": 0.3, "max_tokens": 3000, "stream": true}',
    metadata => '{"finish_reason": "stop"}', usr => 3);

select pg_temp.run(:trace, :start, 60, 58, 'llm', 'gpt-4o-mini', 51600, 2690,
    input => '[{"role": "user", "content": "Check every number in the report against the notes. Answer with a list of those that differ."}]',
    output => '{"role": "assistant", "content": "[]"}',
    prompt => 6911, completion => 2, cost => 0.00103785,
    params => '{"temperature": 0}', metadata => '{"finish_reason": "stop"}',
    usr => 3);


-- 5. A code review that still runs, of code full of markup

\set trace '\'9f14e8b6-03d7-4a2c-95be-\''
\set start '\'2026-11-11 09:14:27.903+00\''

select pg_temp.run(:trace, :start, 1, null, 'agent', 'code-review', 0, null,
    input => '{"repository": "parcel-desk/web", "pull_request": 482, "title": "Greet customers by name"}',
    metadata => '{"environment": "ci", "commit": "9c1f5a8"}',
    tags => '{"code review",ci,"<b>frontend</b>"}', usr => 3, status => 'started');

select pg_temp.run(:trace, :start, 2, 1, 'tool', 'git.diff', 18, 340,
    input => '{"base": "main", "head": "greet-by-name"}',
    output => '"--- a/src/greeting.js\n+++ b/src/greeting.js\n@@ -3,4 +3,4 @@\n-  el.textContent = `Hello, ${user.name}`;\n+  el.innerHTML = `<h1>Hello, ${user.name}</h1>`;\n"',
    usr => 3);

select pg_temp.run(:trace, :start, 3, 1, 'llm', 'claude-sonnet-4', 371, 6208,
    input => '[{"role": "system", "content": [{"type": "text", "text": "You review code."}]},
        {"role": "user", "content": [{"type": "text", "text": "el.innerHTML = `<h1>Hello, ${user.name}</h1>`;"}]}]',
    output => '{"role": "assistant", "content": [{"type": "text", "text": "This runs whatever a customer calls himself: a name such as <img src=x onerror=\"alert(document.cookie)\"> or </script><script>alert(1)</script> becomes code. Keep textContent & create the <h1> with createElement()."}]}',
    prompt => 1874, completion => 231, cost => 0.009087,
    params => '{"temperature": 1, "max_tokens": 4096, "stop_sequences": ["</review>"], "thinking": {"type": "enabled", "budget_tokens": 1024}}',
    metadata => '{"stop_reason": "end_turn"}', usr => 3);

select pg_temp.run(:trace, :start, 4, 1, 'tool', 'tests.run', 6604, null,
    input => '{"command": "npm test", "env": {}}', usr => 3, status => 'started');

select pg_temp.run(:trace, :start, 5, 1, 'custom-event', 'comment.posted', 6610, 0,
    input => 'null', output => '""', usr => 3);


-- 6. Runs that were imported with their parents mixed up: the first one's
-- parent is the last one, so that every run is above every other

\set trace '\'c06b5d2f-e791-4834-a2dd-\''
\set start '\'2026-11-09 17:40:00.000+00\''

select pg_temp.run(:trace, :start, 1, null, 'chain', 'nightly-sync', 0, 4200,
    input => '{"since": "2026-11-08"}', output => '{"tickets": 42}',
    tags => '{import}');

select pg_temp.run(:trace, :start, 2, 1, 'chain', 'classify', 120, 3800,
    input => '{"tickets": 42}', output => '{"labelled": 42}');

select pg_temp.run(:trace, :start, 3, 2, 'llm', 'gpt-4o-mini', 180, 3610,
    input => '[{"role": "user", "content": "Label these 42 tickets."}]',
    output => '{"role": "assistant", "content": "refund, address, refund, lost, …"}',
    prompt => 5120, completion => 168, cost => 0.0008688);

update run set parent_run_id = 'c06b5d2f-e791-4834-a2dd-000000000003'
where id = 'c06b5d2f-e791-4834-a2dd-000000000001';


select setval('external_user_id_seq', 3), setval('template_id_seq', 13),
    setval('template_version_id_seq', 43);

commit;

analyze;
