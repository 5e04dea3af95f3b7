-- The role that the module connects as: it may read what an answer is made
-- of, and nothing else.  The password, or the line in pg_hba.conf that makes
-- one unnecessary, is up to you.

create role lunary_ro login nosuperuser nocreatedb nocreaterole noinherit;

alter role lunary_ro set default_transaction_read_only = on;

grant usage on schema public to lunary_ro;

grant select on run, api_key, external_user, template_version, template
    to lunary_ro;

-- for sessions of the dashboard: two columns, for "account" has passwords too

grant select (id, role) on account to lunary_ro;
grant select on account_project to lunary_ro;
