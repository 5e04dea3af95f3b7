-- The role that nginx uses: it may read what the answers come from, and
-- nothing else.

create role lunary_ro login password 'lunary'
    nosuperuser nocreatedb nocreaterole noinherit noreplication;

grant usage on schema public to lunary_ro;
grant select on run, api_key, external_user, template_version, template
    to lunary_ro;

-- for sessions
grant select (id, role) on account to lunary_ro;
grant select on account_project to lunary_ro;
