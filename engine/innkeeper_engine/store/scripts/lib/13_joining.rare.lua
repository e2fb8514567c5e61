-- A frame that holds this text as it is: neither content size nor checksum, a window of 128 KiB, blocks up to that.
local BLOCK_BYTES = 131072
local function raw_frame(text)
  local out = {'\40\181\47\253\0\56'}
  for at = 1, #text, BLOCK_BYTES do
    local block = string.sub(text, at, at + BLOCK_BYTES - 1)
    local head = #block * 8 + (at + BLOCK_BYTES > #text and 1 or 0)
    out[#out + 1] = string.char(head % 256, math.floor(head / 256) % 256, math.floor(head / 65536))
    out[#out + 1] = block
  end
  return table.concat(out)
end

-- The body of all of these, one after another.
local function join_bodies(pieces)
  local is_plain = true
  for _, piece in ipairs(pieces) do is_plain = is_plain and string.byte(piece) ~= COMPRESSED end
  if is_plain then return table.concat(pieces) end
  local length, frames, plain = 0, {}, {}
  local function end_plain()
    local text = table.concat(plain)
    if text ~= '' then frames[#frames + 1] = raw_frame(text) end
    plain = {}
  end
  for _, piece in ipairs(pieces) do
    length = length + raw_length(piece)
    if string.byte(piece) == COMPRESSED then
      end_plain()
      frames[#frames + 1] = string.sub(piece, string.find(piece, '\n', 1, true) + 1)
    else
      plain[#plain + 1] = piece
    end
  end
  end_plain()
  return 'z' .. digits(length) .. '\n' .. table.concat(frames)
end
