{{- /* The pods of both forms. */}}
{{- define "sluicegate.pod" -}}
{{- $node := eq .Values.form "DaemonSet" -}}
metadata:
  labels:
    {{- include "sluicegate.selector" . | nindent 4 }}
    {{- with .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The process's own settings are read at its start.
    checksum/configuration: {{ include "sluicegate.configuration" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "sluicegate.serviceAccount" . }}
  automountServiceAccountToken: true
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $node }}
  # Node ports and listeners are on the node's own addresses.
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with .Values.priorityClassName | default (ternary "system-node-critical" "" $node) }}
  priorityClassName: {{ . }}
  {{- end }}
  # The delay, the grace period, and the ten seconds after which the process ends in any case.
  terminationGracePeriodSeconds: {{ add .Values.shutdown.delaySeconds .Values.shutdown.graceSeconds 15 }}
  securityContext:
    seccompProfile: {type: RuntimeDefault}
    {{- if $node }}
    # Capabilities are given to root alone, and of root's there are none but those below. The state folder belongs to it.
    runAsUser: 0
    runAsGroup: 0
    {{- else }}
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    # Listeners below 1024 need no capability in a network of the pod's own.
    sysctls:
      - {name: net.ipv4.ip_unprivileged_port_start, value: "0"}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if not $node }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{- toYaml . | nindent 6 }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "sluicegate.selector" $ | nindent 10 }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- end }}
  containers:
    - name: sluicegate
      image: {{ include "sluicegate.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - /etc/sluicegate
        - --cluster
        - --state-dir=/var/lib/sluicegate
        - --admin-address={{ include "sluicegate.adminAddress" . }}:{{ .Values.admin.port }}
        - --node-name=$(NODE_NAME)
        - --shutdown-delay-seconds={{ .Values.shutdown.delaySeconds }}
        - --grace-seconds={{ .Values.shutdown.graceSeconds }}
        - --allow-loopback-endpoints=false
        - --log-format={{ .Values.log.format }}
        - --log-level={{ .Values.log.level }}
        {{- if and $node .Values.takeOver }}
        - --take-over
        - --stay-when-replaced
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: NODE_NAME
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if not $node }}
      ports:
        {{- range .Values.service.ports }}
        - {name: {{ .name }}, containerPort: {{ .targetPort | default .port }}, protocol: {{ .protocol | default "TCP" }}}
        {{- end }}
        - {name: admin, containerPort: {{ .Values.admin.port }}, protocol: TCP}
      {{- end }}
      readinessProbe:
        httpGet:
          path: /readyz
          {{- include "sluicegate.probe" . | nindent 10 }}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      livenessProbe:
        httpGet:
          path: /healthz
          {{- include "sluicegate.probe" . | nindent 10 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          {{- if $node }}
          add:
            # For listeners below 1024.
            - NET_BIND_SERVICE
            {{- if or .Values.manageAddresses .Values.clientAddress.keep }}
            # For routes of virtual IPs, and connections from clients' addresses.
            - NET_ADMIN
            {{- end }}
          {{- end }}
      volumeMounts:
        - {name: objects, mountPath: /etc/sluicegate, readOnly: true}
        - {name: state, mountPath: /var/lib/sluicegate}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: objects
      configMap: {name: {{ include "sluicegate.name" . }}}
    {{- if $node }}
    # What a gateway has learned and compiled stays on the node, and a successor asks there for its sockets.
    - name: state
      hostPath: {path: {{ .Values.stateDir.hostPath }}, type: DirectoryOrCreate}
    {{- else }}
    - name: state
      emptyDir: {}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
