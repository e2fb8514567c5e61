{{/* Bytes of a quantity of Kubernetes: 1536Mi, 1.5Gi, 2G. Empty for one in another form. */}}
{{- define "innkeeper.quantityBytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- include "innkeeper.amount" (dict "text" (toString .) "units" $units) -}}
{{- end }}

{{/* Bytes as Valkey reads its settings: 768mb, 4gb; 1k is 1000 of them. */}}
{{- define "innkeeper.valkeyBytes" -}}
{{- $units := dict "" 1 "b" 1 "k" 1000 "kb" 1024 "m" 1000000 "mb" 1048576 "g" 1000000000 "gb" 1073741824 -}}
{{- include "innkeeper.amount" (dict "text" . "units" $units) -}}
{{- end }}

{{/* Seconds of a duration: 7d, 1 week, 1d12h. Empty for one in another form, which the roles tell of. */}}
{{- define "innkeeper.durationSeconds" -}}
{{- $units := dict "s" 1 "sec" 1 "secs" 1 "second" 1 "seconds" 1 "m" 60 "min" 60 "mins" 60 "minute" 60 "minutes" 60 "h" 3600 "hr" 3600 "hrs" 3600 "hour" 3600 "hours" 3600 "d" 86400 "day" 86400 "days" 86400 "w" 604800 "week" 604800 "weeks" 604800 -}}
{{- $sum := 0.0 -}}
{{- $known := true -}}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?\\s*[a-zA-Z]+" . -1 -}}
{{- $amount := include "innkeeper.amount" (dict "text" . "units" $units) -}}
{{- if $amount -}}{{- $sum = addf $sum (float64 $amount) -}}{{- else -}}{{- $known = false -}}{{- end -}}
{{- end -}}
{{- if $known -}}{{- $sum -}}{{- end -}}
{{- end }}

{{/* A number and a unit as one number. text, units */}}
{{- define "innkeeper.amount" -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" .text -}}
{{- $unit := trimPrefix $number .text | trim -}}
{{- if and $number (hasKey .units $unit) -}}
{{- mulf (float64 $number) (get .units $unit) -}}
{{- end -}}
{{- end }}

{{/* Fails where something is kept for less than it must be. name, text, least (seconds) */}}
{{- define "innkeeper.checkRetention" -}}
{{- with .text -}}
{{- $seconds := include "innkeeper.durationSeconds" . -}}
{{- if $seconds -}}
{{- if lt (float64 $seconds) (float64 $.least) -}}
{{- fail (printf "\n\n%s is %q: it must be %s or more.\n" $.name . (ternary "1h" "1m" (eq (int $.least) 3600))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
