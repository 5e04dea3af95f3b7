-- The role of the module.  It can only read the tables that the module needs.
-- Add a password, or a line in pg_hba.conf.

create role lunary_ro login nosuperuser nocreatedb nocreaterole noinherit;

alter role lunary_ro set default_transaction_read_only = on;

grant usage on schema public to lunary_ro;

grant select on run, api_key, external_user, template_version, template
    to lunary_ro;

-- for sessions of the dashboard; two columns only, as "account" has passwords

grant select (id, role) on account to lunary_ro;
grant select on account_project to lunary_ro;
