-- The claim of a soft delete says when the item went: a load's page that comes after it still brings the row, which
-- then stays, marked. Null for any other delete.

alter table dynaurora.claims add column deleted_at timestamptz;
