-- A schema like Lunary's: the tables, columns and indexes that the statements of
-- the module use.

create type api_key_type as enum ('public', 'private', 'org_private');

create table project (
    id uuid primary key default gen_random_uuid(),
    created_at timestamptz not null default now(),
    name text not null default 'project',
    org_id uuid not null default gen_random_uuid()
);

create table api_key (
    id serial primary key,
    created_at timestamptz not null default now(),
    type api_key_type not null,
    api_key uuid not null default gen_random_uuid(),
    project_id uuid references project (id) on delete cascade,
    org_id uuid not null default gen_random_uuid()
);
create index on api_key (project_id);
create index on api_key (org_id);

create type user_role as enum ('owner', 'admin', 'member', 'viewer',
    'collaborator', 'prompt_editor', 'billing', 'analytics');

create table account (
    id uuid primary key default gen_random_uuid(),
    created_at timestamptz not null default now(),
    email text unique,
    password_hash text,
    name text,
    org_id uuid,
    role user_role
);
create index on account (org_id);

create table account_project (
    account_id uuid references account (id) on delete cascade,
    project_id uuid references project (id) on delete cascade,
    primary key (account_id, project_id)
);

create table external_user (
    id serial primary key,
    created_at timestamptz not null default now(),
    project_id uuid not null references project (id) on delete cascade,
    external_id varchar,
    last_seen timestamptz,
    props jsonb
);
create unique index on external_user (project_id, external_id);
create index on external_user (project_id, last_seen desc nulls last);
create index on external_user (project_id, created_at desc nulls last);

create table template (
    id serial primary key,
    created_at timestamptz default now(),
    name text,
    slug text,
    project_id uuid not null references project (id) on delete cascade,
    mode text
);

create table template_version (
    id serial primary key,
    created_at timestamptz not null default now(),
    extra jsonb,
    content jsonb,
    template_id integer not null references template (id) on delete cascade,
    version integer,
    is_draft boolean
);
create index on template_version (template_id);

create table run (
    id uuid primary key default gen_random_uuid(),
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    duration interval generated always as (ended_at - created_at) stored,
    tags text[],
    project_id uuid not null references project (id) on delete cascade,
    status text,
    name text,
    error jsonb,
    input jsonb,
    output jsonb,
    params jsonb,
    type text not null,
    parent_run_id uuid references run (id)
        on update cascade on delete cascade,
    prompt_tokens integer,
    completion_tokens integer,
    cost float8,
    external_user_id bigint references external_user (id)
        on update cascade on delete cascade,
    feedback jsonb,
    is_public boolean not null default false,
    template_version_id integer references template_version (id)
        on delete set null,
    runtime text,
    metadata jsonb,
    is_deleted boolean default false,
    cached_prompt_tokens integer not null default 0
);
create index on run (parent_run_id);
create index on run (parent_run_id, feedback);
create index on run (id, parent_run_id, feedback);
create index on run (type, parent_run_id);
create index on run (type);
create index on run (name);
create index on run (created_at);
create index on run (created_at, project_id);
create index on run (ended_at, created_at);
create index on run (project_id);
create index on run (project_id, type);
create index on run (project_id, type, created_at desc);
create index on run (project_id, type, name);
create index on run (project_id, created_at);
create index on run (project_id, created_at desc nulls last);
create index on run (project_id, cost desc nulls last);
create index on run (project_id, duration desc nulls last);
create index on run (project_id, external_user_id);
create index on run (project_id, template_version_id);
create index on run (project_id) where is_deleted = false;
create index on run (project_id) where error is not null;
create index on run (external_user_id);
create index on run (name, is_deleted);
create index on run using gin (tags);
create index on run using gin (feedback);
create index on run using gin (metadata jsonb_path_ops);
