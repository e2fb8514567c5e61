-- Bodies of events, results, outputs and errors: JSON, or z<length of the JSON>\n<Zstandard frames> (RFC 8878). Frames one
-- after another are a stream, and text as it is fits into a frame of raw blocks: so pieces are joined, of either kind.
-- What counts for limits is the length of the JSON, raw_length. store/bodies.py writes and reads the same.
local COMPRESSED = 122 -- 'z'; no JSON begins with it

local function raw_length(body)
  if string.byte(body) ~= COMPRESSED then return #body end
  return tonumber(string.match(body, '^z(%d+)\n')) or #body
end
