-- The role of nginx.  It can only read the tables that the module needs.

create role lunary_ro login password 'lunary'
    nosuperuser nocreatedb nocreaterole noinherit noreplication;

grant usage on schema public to lunary_ro;
grant select on run, api_key, external_user, template_version, template
    to lunary_ro;

-- for sessions
grant select (id, role) on account to lunary_ro;
grant select on account_project to lunary_ro;
