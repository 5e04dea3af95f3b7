-- The runs below a run as Lunary's own backend asks for them: a recursion
-- over whole rows, nothing looked up for them, no key.  $1 is the run, $2 the
-- project.

with recursive related as (
    select r.* from run r where r.id = $1::uuid and r.project_id = $2::uuid
    union all
    select r.* from run r join related p on r.parent_run_id = p.id
)
select created_at, tags, project_id, id, status, name, ended_at, error,
    input, output, params, type, parent_run_id, completion_tokens,
    prompt_tokens, coalesce(cost, 0) as cost, feedback, metadata
from related
